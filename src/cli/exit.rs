//! The exit codes: documented, and never changed.

use std::process::ExitCode;

/// What the program ends with. Where several hold, the first of these does: failed, stale, unreachable, pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: nothing is wrong. For `plan` also when changes are pending, unless `--detailed-exitcode` is given.
    Clean,
    /// 1: the command line or a file is wrong; no host was changed.
    Usage,
    /// 2: `plan --detailed-exitcode`, and changes are pending.
    Pending,
    /// 3: a host failed, or something of it is unknown because it may not be read.
    Failed,
    /// 4: a host is unreachable.
    Unreachable,
    /// 5: a host moved since its plan and was not touched.
    Stale,
    /// 130: interrupted.
    Interrupted,
}

impl Exit {
    /// Returns the number.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Usage => 1,
            Self::Pending => 2,
            Self::Failed => 3,
            Self::Unreachable => 4,
            Self::Stale => 5,
            Self::Interrupted => 130,
        }
    }

    /// Returns the one that counts of two.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let weight = |exit: Self| match exit {
            Self::Interrupted => 6,
            Self::Usage => 5,
            Self::Failed => 4,
            Self::Stale => 3,
            Self::Unreachable => 2,
            Self::Pending => 1,
            Self::Clean => 0,
        };
        if weight(other) > weight(self) { other } else { self }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        exit.code().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_outweighs_stale_outweighs_unreachable_outweighs_pending() {
        let all = [Exit::Clean, Exit::Pending, Exit::Unreachable, Exit::Stale, Exit::Failed];
        for (at, weak) in all.iter().enumerate() {
            for strong in &all[at..] {
                assert_eq!(weak.and(*strong), *strong);
                assert_eq!(strong.and(*weak), *strong);
            }
        }
        assert_eq!(all.map(Exit::code), [0, 2, 4, 5, 3]);
    }
}
