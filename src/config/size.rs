//! Sizes as people and the kernel write them: `512M`, `1G`, `2048K`, or plain bytes.

/// Returns a size in bytes. Suffixes are powers of 1024, as memparse() in lib/cmdline.c of the kernel has them; `B` and `iB`
/// may follow.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size such as `512M`, `1G` or `2048K`");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let shift = match text[digits..].trim_end_matches("iB").trim_end_matches('B') {
        "" => 0,
        "K" | "k" => 10,
        "M" | "m" => 20,
        "G" | "g" => 30,
        "T" | "t" => 40,
        "P" | "p" => 50,
        _ => return Err(wrong()),
    };
    number.checked_mul(1 << shift).ok_or_else(|| format!("the size `{text}` is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        let check = |text, bytes| assert_eq!(parse(text).ok(), bytes, "{text}");
        check("0", Some(0));
        check("2048K", Some(2 << 20));
        check("512M", Some(512 << 20));
        check("1GiB", Some(1 << 30));
        check("2T", Some(2 << 40));
        check("1.5G", None);
        check("-1G", None);
        check("G", None);
        check("1 G", None);
        check("99999999999G", None);
        check("", None);
        check("1é", None);
    }
}
