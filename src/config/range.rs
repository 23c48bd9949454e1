//! Names of hosts, and ranges of them: `kvm[01-12].example.net`, `rack[1-4]-node[01-16,20]`.

use std::ops::Range;

/// The greatest number of hosts of one inventory.
pub const MAX_HOSTS: usize = 100_000;

/// The greatest length of a name of a host in bytes (RFC 1035, 2.3.4).
const MAX_NAME: usize = 255;

/// What is wrong with a range or name, and in which bytes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeError {
    /// What is wrong.
    pub message: String,
    /// Where in the text.
    pub at: Range<usize>,
}

enum Part<'t> {
    Literal(&'t str),
    Names(Vec<String>),
}

/// Tells whether a text is a range rather than a single name.
#[must_use]
pub fn is_range(text: &str) -> bool {
    text.contains('[')
}

/// Returns the names that a name or range stands for, in order. The padding of the first number of a range is kept.
///
/// # Errors
/// A bracket without its other half, what is no number, a backward range, more than [`MAX_HOSTS`] names, or a character
/// that no name of a host has.
pub fn expand(text: &str) -> Result<Vec<String>, RangeError> {
    let error = |message: String, at: Range<usize>| Err(RangeError { message, at });
    let mut parts = Vec::new();
    let mut rest = 0;
    let mut count = 1_usize;
    while let Some(open) = text[rest..].find('[').map(|at| rest + at) {
        let Some(close) = text[open..].find(']').map(|at| open + at) else {
            return error("`[` without `]`".to_owned(), open..open + 1);
        };
        parts.push(Part::Literal(&text[rest..open]));
        let mut names = Vec::new();
        let mut start = open + 1;
        for piece in text[open + 1..close].split(',') {
            let at = start..start + piece.len();
            start = at.end + 1;
            numbers(piece, count, &mut names).map_err(|message| RangeError { message, at })?;
        }
        count = count.saturating_mul(names.len());
        if count > MAX_HOSTS {
            return error(format!("the range stands for more than {MAX_HOSTS} hosts"), open..close + 1);
        }
        parts.push(Part::Names(names));
        rest = close + 1;
    }
    parts.push(Part::Literal(&text[rest..]));
    let mut all = vec![String::new()];
    for part in &parts {
        match part {
            Part::Literal(text) => all.iter_mut().for_each(|name| name.push_str(text)),
            Part::Names(names) => {
                all = all.iter().flat_map(|left| names.iter().map(move |right| format!("{left}{right}"))).collect();
            }
        }
    }
    // All names of a range have the same characters outside of its brackets.
    let first = all.first().map_or("", String::as_str);
    if let Some(wrong) = first.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-:".contains(*c))) {
        let at = text.find(wrong).unwrap_or(0);
        return error(format!("a host's name has no {wrong:?}"), at..(at + wrong.len_utf8()).min(text.len()));
    }
    if first.is_empty() || first.starts_with(['-', '.']) {
        return error("a host's name begins with a letter or digit".to_owned(), 0..text.len().min(1));
    }
    if first.len() > MAX_NAME {
        return error(format!("a host's name has at most {MAX_NAME} characters"), 0..text.len());
    }
    Ok(all)
}

fn numbers(piece: &str, count: usize, names: &mut Vec<String>) -> Result<(), String> {
    let (first, last) = piece.split_once('-').unwrap_or((piece, piece));
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number
            .then(|| text.parse::<usize>().ok())
            .flatten()
            .ok_or_else(|| format!("`{text}` is no number of a range such as `[01-12]`"))
    };
    let (from, to) = (number(first)?, number(last)?);
    if from > to {
        return Err(format!("the range `{piece}` runs backward"));
    }
    if (to - from + 1 + names.len()).saturating_mul(count) > MAX_HOSTS {
        return Err(format!("the range stands for more than {MAX_HOSTS} hosts"));
    }
    let width = if first.starts_with('0') || first.len() == last.len() { first.len() } else { 0 };
    names.extend((from..=to).map(|n| format!("{n:0width$}")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_keep_their_padding() {
        let check = |text, names: &[&str]| assert_eq!(expand(text).unwrap(), names, "{text}");
        check("localhost", &["localhost"]);
        check("kvm[01-03].x", &["kvm01.x", "kvm02.x", "kvm03.x"]);
        check("n[9-11]", &["n9", "n10", "n11"]);
        check("n[008-10]", &["n008", "n009", "n010"]);
        check("r[1-2]n[1,3-4]", &["r1n1", "r1n3", "r1n4", "r2n1", "r2n3", "r2n4"]);
        assert_eq!(expand("n[1-100000]").unwrap().len(), 100_000);
    }

    #[test]
    fn what_is_no_range_is_refused_in_its_place() {
        let check = |text: &str, at: Range<usize>, words: &str| {
            let error = expand(text).unwrap_err();
            assert!(error.message.contains(words), "{text}: {}", error.message);
            assert_eq!(error.at, at, "{text}");
        };
        check("kvm[12-01]", 4..9, "runs backward");
        check("kvm[1-3", 3..4, "without `]`");
        check("kvm[]", 4..4, "no number");
        check("kvm[1,a]", 6..7, "no number");
        check("kvm[1-100001]", 4..12, "more than 100000");
        check("a[1-1000]b[1-1000]", 11..17, "more than 100000");
        check("a b", 1..2, "has no ' '");
        check("kvm]", 3..4, "has no ']'");
        check("-oProxyCommand=x", 14..15, "has no '='");
        check("-x", 0..1, "begins with");
        check("", 0..0, "begins with");
        check("n[1-99999999999]", 2..15, "no number");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[a1\\[\\]\\-,é.]{0,20}") {
            if let Err(error) = expand(&text) {
                proptest::prop_assert!(text.get(error.at).is_some());
            }
        }
    }
}
