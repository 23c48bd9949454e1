//! `/proc/swaps`: the swap in use (proc(5)).

use serde::{Deserialize, Serialize};

use super::fstab::unescape;

/// One swap partition or file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Swap {
    /// The device or file.
    pub name: String,
    /// `partition` or `file`.
    pub kind: String,
    /// The size in bytes.
    pub size: u64,
    /// What is used of it, in bytes.
    pub used: u64,
    /// The priority: the higher one is used first.
    pub priority: i32,
}

/// A line that is not what the kernel writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {0} of /proc/swaps is no swap")]
pub struct SwapsError(pub usize);

/// Reads the file; its first line is a heading.
///
/// # Errors
/// If a line is no swap.
pub fn parse(content: &[u8]) -> Result<Vec<Swap>, SwapsError> {
    let lines = content.split(|byte| *byte == b'\n').enumerate().skip(1).filter(|(_, line)| !line.is_empty());
    lines.map(|(at, line)| parse_line(line).ok_or(SwapsError(at + 1))).collect()
}

fn parse_line(line: &[u8]) -> Option<Swap> {
    let mut fields = line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|field| !field.is_empty());
    let mut next = || fields.next().map(unescape);
    let (name, kind) = (next()?, next()?);
    let (size, used) = (next()?.parse::<u64>().ok()?, next()?.parse::<u64>().ok()?);
    let priority = next()?.parse().ok()?;
    Some(Swap { name, kind, size: size.checked_mul(1024)?, used: used.checked_mul(1024)?, priority })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines() {
        // Written by hand after Linux 6.1; the heading is captured.
        let text = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/zram0                              partition\t8388604\t\
            0\t\t100\n/swap\\040file file 1048572 512 -2\n";
        let swaps = parse(text).unwrap();
        assert_eq!((swaps[0].size, swaps[0].priority), (8_388_604 * 1024, 100));
        assert_eq!((swaps[1].name.as_str(), swaps[1].used, swaps[1].priority), ("/swap file", 512 * 1024, -2));
        assert_eq!(parse(b"Filename\n"), Ok(vec![]));
        assert_eq!(parse(b""), Ok(vec![]));
        assert_eq!(parse(b"Filename\n/x file\n"), Err(SwapsError(2)));
    }

    proptest! {
        #[test]
        fn no_input_panics(content: Vec<u8>) {
            let _ = parse(&content);
        }
    }
}
