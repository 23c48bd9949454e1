//! [`Pattern`]: the shell globs of [`super::read::Read::Glob`].

/// An absolute glob: `*`, `?` and `[…]` (with ranges and `!` or `^`) match within one component and never a leading dot, as
/// glob(7) has it; there is no escape, since no path that vprov reads needs one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    components: Vec<String>,
}

impl Pattern {
    /// Takes a text as a pattern; `None` if it is not absolute or holds `.` or `..`.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let rest = text.strip_prefix('/')?;
        let components: Vec<String> = rest.split('/').filter(|part| !part.is_empty()).map(String::from).collect();
        let normal = components.iter().all(|part| part != "." && part != "..");
        normal.then_some(Self { components })
    }

    /// Returns the components in order.
    #[must_use]
    pub fn components(&self) -> &[String] {
        &self.components
    }

    /// Tells whether a component is a pattern and not a plain name.
    #[must_use]
    pub fn is_wild(component: &str) -> bool {
        component.contains(['*', '?', '['])
    }

    /// Tells whether a whole path matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let mut names = path.split('/').filter(|part| !part.is_empty());
        self.components.iter().all(|component| names.next().is_some_and(|name| component_matches(component, name)))
            && names.next().is_none()
    }
}

/// Tells whether a name matches one component of a pattern.
#[must_use]
pub fn component_matches(component: &str, name: &str) -> bool {
    if !Pattern::is_wild(component) {
        return component == name;
    }
    if name.starts_with('.') && !component.starts_with('.') {
        return false;
    }
    let (pattern, name): (Vec<char>, Vec<char>) = (component.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on if what follows the last star does not fit: behind that star, one character further.
    let mut star = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
                continue;
            }
            Some('?') => Some(p + 1),
            Some('[') => match set(&pattern[p..], name[n]) {
                Some((length, true)) => Some(p + length),
                Some((_, false)) => None,
                None => (name[n] == '[').then_some(p + 1),
            },
            Some(character) => (*character == name[n]).then_some(p + 1),
            None => None,
        };
        match (step, star) {
            (Some(next), _) => {
                p = next;
                n += 1;
            }
            (None, Some((behind, from))) => {
                p = behind;
                n = from + 1;
                star = Some((behind, from + 1));
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|character| *character == '*')
}

/// Reads a set at the beginning of `pattern`; returns its length and whether it holds `character`, or `None` if it has no end.
fn set(pattern: &[char], character: char) -> Option<(usize, bool)> {
    let negated = matches!(pattern.get(1), Some('!' | '^'));
    let first = if negated { 2 } else { 1 };
    let mut at = first;
    let mut holds = false;
    loop {
        match (pattern.get(at)?, pattern.get(at + 1), pattern.get(at + 2)) {
            (']', _, _) if at > first => return Some((at + 1, holds != negated)),
            (low, Some('-'), Some(high)) if *high != ']' => {
                holds |= (*low..=*high).contains(&character);
                at += 3;
            }
            (single, _, _) => {
                holds |= *single == character;
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_match_as_in_the_shell() {
        for (pattern, name, expected) in [
            ("*.conf", "90-vprov.conf", true),
            ("*.conf", ".conf", false),
            (".*", ".conf", true),
            ("*", "", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("sd[a-c]", "sdb", true),
            ("sd[!a-c]", "sdb", false),
            ("sd[]x]", "sd]", true),
            ("a[b", "a[b", true),
            ("*a*b*c", "xxaybzzc", true),
            ("*a*b*c", "xxaybzz", false),
            ("hugepages-*kB", "hugepages-1048576kB", true),
            ("plain", "plain", true),
        ] {
            assert_eq!(component_matches(pattern, name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn a_star_never_matches_a_slash() {
        let pattern = Pattern::new("/etc/*.d/*.conf").unwrap();
        assert!(pattern.matches("/etc/sysctl.d/a.conf"));
        assert!(!pattern.matches("/etc/sysctl.d/x/a.conf"));
        assert!(Pattern::new("etc/*").is_none());
        assert!(Pattern::new("/etc/../*").is_none());
    }
}
