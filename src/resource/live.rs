//! A value that the kernel has now, in a file of /proc or /sys: how it is compared, and how it is changed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cannot, Remark, Seen};
use crate::{
    host::{
        matcher::{self, Expectation, Matcher},
        op::{Form, Op, Step},
        path::AbsPath,
        read::{Answer, Read},
    },
    os::sysctl,
};

/// How a value is compared with what the kernel shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// Character by character.
    Exact,
    /// Word by word: white space does not count.
    Words,
    /// By number: `0x3c` is 60.
    Integer,
    /// The word in brackets of a list of choices, as in `always [madvise] never`.
    Choice,
    /// A number that must not be smaller.
    AtLeast,
    /// By size: `2M` is `2048K`.
    Size,
}

/// One value that is wanted.
#[derive(Clone, Debug)]
pub struct Live {
    /// The file.
    pub path: AbsPath,
    /// The value.
    pub value: String,
    /// How it is compared; `None` to follow what the kernel shows.
    pub compare: Option<Compare>,
}

impl Live {
    /// Makes a value that is compared as the kernel shows it.
    #[must_use]
    pub fn new(path: AbsPath, value: impl Into<String>) -> Self {
        Self { path, value: value.into(), compare: None }
    }

    /// Asks for the value.
    #[must_use]
    pub fn read(&self) -> Read {
        Read::content(self.path.clone())
    }

    /// Returns what the kernel shows; `None` where there is no such file.
    ///
    /// # Errors
    /// [`Cannot`] where it may not be read, or is no text file.
    pub fn shown<'a>(&self, seen: &Seen<'a>) -> Result<Option<&'a str>, Cannot> {
        if matches!(seen.get(&self.read()), Answer::Denied) && self.is_locked_down(seen) {
            let mode = &seen.facts.lockdown;
            return Err(Cannot::Refused(format!("{} is closed by the kernel's lockdown (`{mode}`)", self.path)));
        }
        seen.text(&self.path)
    }

    /// Returns the value in canonical form: the wanted text where it is as wanted, else the current one without white
    /// space around it. `None` where there is no such file.
    ///
    /// # Errors
    /// As [`Live::shown`]; also where the kernel does not offer the wanted choice.
    pub fn current(&self, seen: &Seen) -> Result<Option<String>, Cannot> {
        let Some(shown) = self.shown(seen)? else { return Ok(None) };
        let matcher = self.matcher(shown)?;
        if matcher.matches_text(shown) {
            return Ok(Some(self.value.clone()));
        }
        if self.compare(shown) == Compare::Choice {
            let offered: Vec<&str> = shown.split_whitespace().map(|word| word.trim_matches(['[', ']'])).collect();
            if !offered.contains(&self.value.as_str()) {
                let offered = offered.join("`, `");
                return Err(Cannot::Refused(format!("{} offers `{offered}`, not `{}`", self.path, self.value)));
            }
            return Ok(Some(matcher::choice(shown).unwrap_or_default().into()));
        }
        Ok(Some(shown.split_whitespace().collect::<Vec<_>>().join(" ")))
    }

    /// Returns the step that writes the value. It is guarded by the value that the plan saw.
    ///
    /// # Errors
    /// As [`Live::current`].
    pub fn step(&self, seen: &Seen) -> Result<Step, Cannot> {
        let shown = self.shown(seen)?.unwrap_or_default();
        let after = Expectation::new(self.read(), self.matcher(shown)?);
        Ok(self.poke(shown).guard(self.guard(shown)).after(after))
    }

    /// Returns the step that writes the value, without any expectation.
    #[must_use]
    pub fn poke(&self, shown: &str) -> Step {
        let form = if is_choice(shown) { Form::Choice } else { Form::Plain };
        Step::new(Op::Poke { path: self.path.clone(), value: self.value.clone(), form })
    }

    fn guard(&self, shown: &str) -> Expectation {
        let saw = match matcher::choice(shown) {
            Some(word) if is_choice(shown) => Matcher::Choice(word.into()),
            _ => Matcher::Words(shown.trim().into()),
        };
        Expectation::new(self.read(), saw)
    }

    fn compare(&self, shown: &str) -> Compare {
        self.compare.unwrap_or_else(|| match (sysctl::integer(&self.value), sysctl::integer(shown.trim())) {
            _ if is_choice(shown) => Compare::Choice,
            (Some(_), Some(_)) => Compare::Integer,
            _ => Compare::Words,
        })
    }

    fn matcher(&self, shown: &str) -> Result<Matcher, Cannot> {
        let wrong = |what: &str| Cannot::Refused(format!("`{}` is no {what}", self.value));
        let integer = || sysctl::integer(self.value.trim()).ok_or_else(|| wrong("integer"));
        Ok(match self.compare(shown) {
            Compare::Exact if shown.ends_with('\n') => Matcher::Bytes(format!("{}\n", self.value).into()),
            Compare::Exact => Matcher::Bytes(self.value.as_str().into()),
            Compare::Words => Matcher::Words(canonical_words(&self.value, shown)),
            Compare::Integer => Matcher::Integer(integer()?),
            Compare::Choice => Matcher::Choice(self.value.clone()),
            Compare::AtLeast => Matcher::AtLeast(integer()?),
            Compare::Size => Matcher::Size(matcher::size(&self.value).ok_or_else(|| wrong("size"))?),
        })
    }

    fn is_locked_down(&self, seen: &Seen) -> bool {
        self.path.as_str().starts_with("/sys/kernel/debug/") && !matches!(seen.facts.lockdown.as_str(), "" | "none")
    }

    /// Returns what may change the value again: tuned for transparent huge pages and schedulers, ksmtuned for KSM.
    #[must_use]
    pub fn rivals(&self, seen: &Seen) -> Option<Remark> {
        let path = self.path.as_str();
        let tuned = &seen.facts.tuned_profile;
        let by_tuned = path.starts_with("/sys/kernel/mm/transparent_hugepage/") || path.ends_with("/queue/scheduler");
        if by_tuned && !tuned.is_empty() {
            return Some(Remark::warning_with_help(
                format!("tuned applies its profile `{tuned}` later in boot and may set {path} again"),
                "let one of them decide: set it in the profile of tuned, or choose a profile that leaves it alone",
            ));
        }
        let by_ksmtuned = path.starts_with("/sys/kernel/mm/ksm/")
            && ["run", "pages_to_scan", "sleep_millisecs"].contains(&self.path.file_name());
        let runs = KSMTUNED.iter().any(|group| seen.get(&Read::exists(AbsPath::known(group))).meta().is_some());
        (by_ksmtuned && runs).then(|| {
            Remark::warning_with_help(
                format!("ksmtuned runs and rewrites {path} every 60 seconds"),
                "disable ksmtuned.service, or leave these values to it",
            )
        })
    }

    /// Asks for what [`Live::rivals`] needs.
    #[must_use]
    pub fn rivals_reads(&self) -> Vec<Read> {
        if self.path.as_str().starts_with("/sys/kernel/mm/ksm/") {
            return KSMTUNED.iter().map(|group| Read::exists(AbsPath::known(group))).collect();
        }
        vec![]
    }
}

/// The control group of a running ksmtuned.service, on version 2 and version 1 of control groups.
const KSMTUNED: [&str; 2] =
    ["/sys/fs/cgroup/system.slice/ksmtuned.service", "/sys/fs/cgroup/systemd/system.slice/ksmtuned.service"];

/// Tells whether a file shows a list of choices.
fn is_choice(shown: &str) -> bool {
    shown.split_whitespace().any(|word| word.len() > 2 && word.starts_with('[') && word.ends_with(']'))
}

/// Writes the words of a value as the kernel will show them: a number in decimal where it shows numbers now.
fn canonical_words(value: &str, shown: &str) -> String {
    let mut now = shown.split_whitespace();
    let word = |word: &str| match (sysctl::integer(word), now.next().and_then(sysctl::integer)) {
        (Some(number), Some(_)) => number.to_string(),
        _ => word.to_owned(),
    };
    value.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::world::World;

    #[test]
    fn values_are_compared_as_the_kernel_shows_them() {
        let path = "/sys/x";
        let check = |value: &str, compare: Option<Compare>, shown: &str, expected: Result<&str, &str>| {
            let world = World::of(&[(path, shown)]);
            let live = Live { path: AbsPath::known(path), value: value.into(), compare };
            let mut observed = crate::host::observed::Observed::default();
            observed.put(live.read(), world.answer(&live.read()));
            let seen = Seen { observed: &observed, facts: &world.facts, offline: false };
            match (live.current(&seen), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found.as_deref(), Some(expected), "{value} {shown}"),
                (Err(Cannot::Refused(why)), Err(expected)) => assert_eq!(why, expected),
                (found, _) => panic!("{value} {shown}: {found:?}"),
            }
        };
        check("madvise", None, "always [madvise] never\n", Ok("madvise"));
        check("never", None, "always [madvise] never\n", Ok("madvise"));
        check("x", None, "always [madvise] never\n", Err("/sys/x offers `always`, `madvise`, `never`, not `x`"));
        check("0x3c", None, "60\n", Ok("0x3c"));
        check("61", None, "60\n", Ok("60"));
        check("4096 0x20000 6291456", None, "4096\t131072\t6291456\n", Ok("4096 0x20000 6291456"));
        check("4096 1", None, "4096\t131072\n", Ok("4096 131072"));
        check("2M", Some(Compare::Size), "2048K\n", Ok("2M"));
        check("4", Some(Compare::AtLeast), "5\n", Ok("4"));
        check("a  b", Some(Compare::Exact), "a  b\n", Ok("a  b"));
        check("many", Some(Compare::Integer), "5\n", Err("`many` is no integer"));
    }
}
