//! The release of a Linux kernel, for the few facts that hold from one release on.
//!
//! Distributions backport, so a test for a file is better than a test for a release wherever there is a file.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The first two numbers of a kernel release (`uname -r`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct KernelVersion {
    /// The major number.
    pub major: u32,
    /// The minor number.
    pub minor: u32,
}

impl KernelVersion {
    /// Makes a release from its numbers.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// A text that begins with no kernel release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` does not begin with the numbers of a kernel release")]
pub struct NoRelease(pub String);

impl FromStr for KernelVersion {
    type Err = NoRelease;

    /// Reads what `uname -r` says, for example `5.14.21-150500.55.52-default` or `6.1-rc1`.
    fn from_str(text: &str) -> Result<Self, NoRelease> {
        let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit());
        let mut next = || numbers.next().and_then(|digits| digits.parse().ok());
        match (next(), next()) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(NoRelease(text.into())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_as_distributions_write_them() {
        for (text, expected) in [
            ("5.14.21-150500.55.52-default", Some((5, 14))),
            ("6.18.44-fc-v657\n", Some((6, 18))),
            ("6.1-rc1", Some((6, 1))),
            ("3.0.101-108.129-xen", Some((3, 0))),
            ("4.18.0-553.el8_10.x86_64", Some((4, 18))),
            ("linux", None),
            ("6", None),
            ("", None),
        ] {
            let read = text.parse::<KernelVersion>().ok().map(|version| (version.major, version.minor));
            assert_eq!(read, expected, "{text}");
        }
        assert!(KernelVersion::new(5, 8) < KernelVersion::new(5, 13));
    }
}
