//! `rollout:` of hosts.yaml: in which order hosts are changed, how many at once, and when to stop.

use std::{fmt, str::FromStr};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, SeqAccess, Visitor},
};

/// How a change goes over the hosts. The default is all of them at once, in the order of the inventory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// In which order.
    pub order: Order,
    /// Who goes first; if one of them fails, nobody else begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// How many go together; the next batch begins when all of the one before ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<Amount>,
    /// How many may fail; with one more, nobody else begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failures: Option<Amount>,
    /// How many seconds pass between two batches.
    pub pause: u32,
    /// Somebody is asked before each further batch.
    pub ask: bool,
    /// What must hold before and after each host's change.
    pub health: Health,
}

/// In which order hosts are changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// As they stand in the inventory.
    #[default]
    Inventory,
    /// By name.
    Sorted,
    /// The inventory from its end.
    Reversed,
    /// By chance; the same seed gives the same order, and a host that is added moves no other.
    Random {
        /// The seed.
        seed: u64,
    },
}

/// A number of hosts, or a part of all hosts of the rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// So many.
    Hosts(usize),
    /// So many of a hundred, up to 100.
    Percent(u8),
}

impl Amount {
    /// Returns how many of `all` hosts that is, rounded down.
    #[must_use]
    pub fn of(self, all: usize) -> usize {
        match self {
            Self::Hosts(n) => n,
            Self::Percent(percent) => all.saturating_mul(percent.into()) / 100,
        }
    }
}

/// Who goes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Canary {
    /// The first so many of the order, at least one.
    Amount(Amount),
    /// Names, ranges, globs and groups, as `--limit` takes them.
    Hosts(Vec<String>),
}

/// What must hold on a host beside its own `assert`s.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// Before anything is changed there; else the host is left untouched.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<HealthCheck>,
    /// After the change; else the host failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<HealthCheck>,
    /// How many seconds a check of `after` has to become true.
    pub within: u32,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthCheck {
    /// A program on the host ends with 0. It runs where nothing can be written.
    Command(Vec<String>),
    /// A systemd unit of the host is active.
    Unit(String),
    /// A TCP port of the host takes a connection from this machine.
    Tcp(u16),
}

impl fmt::Display for HealthCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(argv) => write!(f, "`{}`", argv.join(" ")),
            Self::Unit(unit) => write!(f, "unit `{unit}`"),
            Self::Tcp(port) => write!(f, "TCP port {port}"),
        }
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inventory => f.write_str("inventory"),
            Self::Sorted => f.write_str("sorted"),
            Self::Reversed => f.write_str("reversed"),
            Self::Random { seed } => write!(f, "random:{seed}"),
        }
    }
}

impl FromStr for Order {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("random:").map(str::parse)) {
            ("inventory", _) => Ok(Self::Inventory),
            ("sorted", _) => Ok(Self::Sorted),
            ("reversed", _) => Ok(Self::Reversed),
            ("random", _) => Ok(Self::Random { seed: 0 }),
            (_, Some(Ok(seed))) => Ok(Self::Random { seed }),
            _ => {
                Err(format!("`{text}` is no order: write `inventory`, `sorted`, `reversed`, `random` or `random:SEED`"))
            }
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosts(n) => write!(f, "{n}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl FromStr for Amount {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is neither a number of hosts nor a part such as `25%`");
        match text.strip_suffix('%') {
            Some(percent) => match percent.trim_end().parse() {
                Ok(percent @ 0..=100) => Ok(Self::Percent(percent)),
                _ => Err(wrong()),
            },
            None => text.parse().map(Self::Hosts).map_err(|_| wrong()),
        }
    }
}

impl FromStr for Canary {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a number or the names of hosts are missing".into());
        }
        Ok(text.parse().map_or_else(|_| Self::Hosts(vec![text.into()]), Self::Amount))
    }
}

impl Serialize for Order {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Order {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

impl Serialize for Canary {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Amount(amount) => amount.serialize(to),
            Self::Hosts(patterns) => patterns.serialize(to),
        }
    }
}

impl<'de> Deserialize<'de> for Canary {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Canary;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a part such as `5%`, or names of hosts")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Canary, E> {
                Ok(Canary::Amount(Amount::Hosts(usize::try_from(n).unwrap_or(usize::MAX))))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Canary, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Canary, A::Error> {
                let mut patterns = vec![];
                while let Some(pattern) = list.next_element::<String>()? {
                    patterns.push(pattern);
                }
                Ok(Canary::Hosts(patterns))
            }
        }
        from.deserialize_any(Either)
    }
}

impl Rollout {
    /// Finds what no type can say, in words.
    pub(super) fn problems(&self) -> Vec<&'static str> {
        let is_nothing = |amount: &Amount| matches!(amount, Amount::Hosts(0) | Amount::Percent(0));
        let mut problems = vec![];
        match &self.canary {
            Some(Canary::Hosts(patterns)) if patterns.is_empty() => problems.push("`canary` names no host"),
            Some(Canary::Amount(amount)) if is_nothing(amount) => problems.push("`canary` is nobody; leave it out"),
            _ => {}
        }
        if self.batch.as_ref().is_some_and(is_nothing) {
            problems.push("a `batch` has at least one host");
        }
        let checks = || self.health.before.iter().chain(&self.health.after);
        if checks()
            .any(|check| matches!(check, HealthCheck::Command(argv) if argv.first().is_none_or(String::is_empty)))
        {
            problems.push("a `command` has a program and its arguments");
        }
        if checks().any(|check| matches!(check, HealthCheck::Unit(unit) if unit.is_empty() || unit.starts_with('-'))) {
            problems.push("a `unit` has a name");
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Inventory, yaml},
        diag::SourceMap,
    };

    fn read(text: &str) -> Result<Rollout, String> {
        let map = SourceMap::new();
        let text = format!("hosts: {{ a: {{}} }}\nrollout: {text}\n");
        Inventory::read(&yaml::read("t", &text, &map).unwrap(), &[], &map)
            .map(|(inventory, _)| inventory.rollout)
            .map_err(|errors| errors.render(&map, false).lines().next().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_rollout_is_read_and_wrong_ones_have_their_place() {
        let read_all = read(
            "{ order: random:7, canary: [a, rack1], batch: 25%, max_failures: 3, pause: 30, ask: true, health: { before: \
             [{ command: [test, -e, /x] }], after: [{ unit: libvirtd.service }, { tcp: 22 }], within: 20 } }",
        );
        let expected = Rollout {
            order: Order::Random { seed: 7 },
            canary: Some(Canary::Hosts(vec!["a".into(), "rack1".into()])),
            batch: Some(Amount::Percent(25)),
            max_failures: Some(Amount::Hosts(3)),
            pause: 30,
            ask: true,
            health: Health {
                before: vec![HealthCheck::Command(vec!["test".into(), "-e".into(), "/x".into()])],
                after: vec![HealthCheck::Unit("libvirtd.service".into()), HealthCheck::Tcp(22)],
                within: 20,
            },
        };
        assert_eq!(read_all, Ok(expected.clone()));
        let text = serde_json::to_string(&expected).unwrap();
        assert_eq!(serde_json::from_str::<Rollout>(&text).unwrap(), expected);
        assert_eq!(read("{}"), Ok(Rollout::default()));
        assert_eq!(read("{ canary: 1 }").unwrap().canary, Some(Canary::Amount(Amount::Hosts(1))));
        assert_eq!(read("{ canary: 5% }").unwrap().canary, Some(Canary::Amount(Amount::Percent(5))));
        let wrong = |text: &str, words: &str| assert_eq!(read(text).unwrap_err(), words, "{text}");
        wrong("{ batches: 3 }", "t:2:12: error: unknown key `batches`");
        wrong("{ batch: 0 }", "t:2:10: error: a `batch` has at least one host");
        wrong("{ batch: 101% }", "t:2:19: error: `101%` is neither a number of hosts nor a part such as `25%`");
        wrong("{ health: { after: [ { port: 22 } ] } }", "t:2:33: error: unknown value `port`");
        wrong("[]", "t:2:10: error: expected a map, found a list");
    }

    #[test]
    fn parts_are_rounded_down() {
        assert_eq!(Amount::Percent(25).of(10), 2);
        assert_eq!(Amount::Percent(1).of(10), 0);
        assert_eq!(Amount::Hosts(3).of(1), 3);
    }
}
