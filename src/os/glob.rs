//! Patterns of paths as glob(3) reads them, which is not quite how globset does.

use globset::GlobBuilder;

/// Tells whether a text is a pattern for sysctl.d and tmpfiles.d.
#[must_use]
pub fn is_pattern(text: &str) -> bool {
    text.contains(['*', '?', '['])
}

/// Tells whether a pattern names a path; `*` and `?` stop at `/`. Braces are alternatives only where the program asks
/// glob(3) for that (`GLOB_BRACE`). A pattern that cannot be read names nothing.
#[must_use]
pub fn matches(pattern: &str, path: &str, braces: bool) -> bool {
    let literal;
    let pattern = if braces {
        pattern
    } else {
        literal = pattern.chars().fold(String::new(), |mut text, c| {
            match c {
                '{' => text.push_str("[{]"),
                '}' => text.push_str("[}]"),
                c => text.push(c),
            }
            text
        });
        &literal
    };
    // A pattern of this length is no honest one, and compiling it costs.
    if pattern.len() > 4096 {
        return false;
    }
    let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
    glob.is_ok_and(|glob| glob.compile_matcher().is_match(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, braces, expected) in [
            ("net/ipv4/conf/*/rp_filter", "net/ipv4/conf/eth0/rp_filter", false, true),
            ("vm/*", "vm/a/b", false, false),
            ("/sys/block/sd[a-c]/queue/scheduler", "/sys/block/sdb/queue/scheduler", true, true),
            ("/sys/block/{sda,vda}/x", "/sys/block/vda/x", true, true),
            ("a{b,c}", "ab", false, false),
            ("a{b,c}", "a{b,c}", false, true),
            ("a[", "a[", false, false),
            ("*", "a", false, true),
        ] {
            assert_eq!(matches(pattern, path, braces), expected, "{pattern} {path}");
        }
    }
}
