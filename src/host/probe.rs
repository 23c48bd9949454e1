//! [`Probe`]: the programs that may be run while planning, a closed list.

use serde::{Deserialize, Serialize};

/// A program that changes nothing and answers a question.
///
/// Only the constructors here make one, and the executor checks what it is sent against [`Probe::is_allowed`], so a plan
/// cannot run anything else. The one exception is [`Probe::User`]: what a person wrote as `unless` or `assert`, which
/// runs where the file systems are read-only and is counted in the plan.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Probe {
    /// One run of a listed program.
    Once {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// One item of a listed program that takes many: the executor puts the items of equal `argv` behind it in one run,
    /// and each item's answer is its block of the output, blocks being separated by a blank line (as `systemctl show`
    /// prints them, in the order of the arguments, exit status 0 always).
    Each {
        /// Program and arguments, up to and with `--`.
        argv: Vec<String>,
        /// The last argument.
        item: String,
    },
    /// A program that a person named.
    User {
        /// Program and arguments.
        argv: Vec<String>,
    },
}

/// Programs that change nothing with the first arguments given; further arguments do not alter that.
const LISTED: &[(&str, &[&str])] = &[
    ("systemctl", &["show"]),
    ("systemctl", &["is-system-running"]),
    ("systemctl", &["list-unit-files"]),
    ("xl", &["info"]),
    ("xl", &["list"]),
    ("virsh", &["-r"]),
    ("findmnt", &["--verify"]),
    ("nfsconf", &["--get"]),
    ("tuned-adm", &["active"]),
    ("udevadm", &["info"]),
    ("bootctl", &["is-installed"]),
];

impl Probe {
    /// Asks `systemctl show` for one unit; all units of a round are asked for in one run.
    #[must_use]
    pub fn unit(properties: &str, unit: &str) -> Self {
        Self::Each { argv: ["systemctl", "show", "-p", properties, "--"].map(String::from).into(), item: unit.into() }
    }

    /// Runs a listed program.
    ///
    /// # Panics
    /// Panics if the program is not listed: a mistake in the source, which any test of the caller shows.
    #[must_use]
    pub fn once<const N: usize>(argv: [&str; N]) -> Self {
        let probe = Self::Once { argv: argv.map(String::from).into() };
        assert!(probe.is_allowed(), "`{argv:?}` is not among the programs that change nothing");
        probe
    }

    /// Tells whether planning may run this.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        match self {
            Self::User { argv } => !argv.is_empty(),
            Self::Once { argv } | Self::Each { argv, .. } => LISTED.iter().any(|(program, first)| {
                argv.split_first().is_some_and(|(name, rest)| {
                    name == program && rest.len() >= first.len() && rest.iter().zip(*first).all(|(a, b)| a == b)
                })
            }),
        }
    }

    /// Returns program and arguments, for people.
    #[must_use]
    pub fn argv(&self) -> Vec<String> {
        match self {
            Self::Once { argv } | Self::User { argv } => argv.clone(),
            Self::Each { argv, item } => argv.iter().chain([item]).cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_programs_are_probes() {
        assert!(Probe::unit("Id", "ssh.service").is_allowed());
        assert!(Probe::once(["xl", "info"]).is_allowed());
        for argv in [&["systemctl", "stop"][..], &["/tmp/systemctl", "show"], &["systemctl"], &[]] {
            let argv: Vec<String> = argv.iter().map(|word| (*word).into()).collect();
            assert!(!Probe::Once { argv }.is_allowed());
        }
    }
}
