//! One value that the kernel has now, in a file of /sys or /proc.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cannot, Disruption, Problem, Remark, Resource, Seen,
    live::{Compare, Live},
    scalar::Scalar,
};
use crate::{
    host::{
        op::Step,
        path::AbsPath,
        read::{Answer, Read},
        state::{Owed, Short},
    },
    os::sysctl,
};

/// A value that the kernel has now, in a file of /sys or /proc. It lasts until the next boot: `tmpfiles`, `udev_rule`, `sysctl`
/// and `kernel_cmdline` are for what must last. Below `--root` there is nothing to do.
///
/// Removing it from the configuration leaves the value and plans list it as orphaned; `--prune` writes the value before again.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelValue {
    /// The file.
    pub path: AbsPath,
    /// The value.
    pub value: Scalar,
    /// How the value is compared with what the kernel shows: `exact`, `words`, `integer`, `choice` (in brackets), `at_least`, `size`.
    /// Unset: by what the kernel shows.
    #[serde(default)]
    pub compare: Option<Compare>,
    /// A file that is not there is a warning.
    #[serde(default)]
    pub optional: bool,
    /// The kernel may give less than asked, as it does with huge pages. That is told and not tried again before the next boot.
    #[serde(default)]
    pub partial: bool,
}

/// What is managed of a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// The value.
    value: String,
    /// Whether pages are merged (/sys/kernel/mm/ksm/run), where a run was cut while it had them unmerged.
    #[serde(skip_serializing_if = "Option::is_none")]
    merging: Option<String>,
}

/// How the record of a cut run begins that says what /sys/kernel/mm/ksm/run was before pages were unmerged.
const UNMERGED: &str = "merging as before: ";

const KSM: &str = "/sys/kernel/mm/ksm";

impl KernelValue {
    fn live(&self) -> Live {
        Live { path: self.path.clone(), value: self.value.0.trim().into(), compare: self.compare }
    }

    /// Returns the file that tells how many pages of a pool are surplus: the pool's count includes them, and shrinking a pool
    /// that is in use makes them (mm/hugetlb.c, `nr_hugepages_show_common`).
    fn surplus(&self) -> Option<AbsPath> {
        let is_pool = self.path.file_name() == "nr_hugepages" && self.path.as_str().starts_with("/sys/");
        self.path.parent().filter(|_| is_pool)?.join("surplus_hugepages").ok()
    }

    /// Tells whether the kernel refuses this value with EBUSY while pages are merged (mm/ksm.c).
    fn needs_unmerged(&self) -> bool {
        self.is_of_ksm() && ["merge_across_nodes", "max_page_sharing"].contains(&self.path.file_name())
    }

    fn is_of_ksm(&self) -> bool {
        self.path.parent().is_some_and(|parent| parent.as_str() == KSM)
    }

    fn ksm(name: &str) -> AbsPath {
        AbsPath::known(&format!("{KSM}/{name}"))
    }

    fn number(seen: &Seen, path: &AbsPath) -> Option<i128> {
        sysctl::integer(seen.text(path).ok().flatten()?.trim())
    }

    /// Returns what a run that was cut left in /sys/kernel/mm/ksm/run to be written again.
    fn left_unmerged(&self, seen: &Seen) -> Option<String> {
        let Answer::Paths(records) = seen.get(&Owed::read()) else { return None };
        let owed = records.iter().filter(|_| self.needs_unmerged()).find_map(|(_, answer)| {
            let owed: Owed = serde_json::from_slice(&answer.content()?.0).ok()?;
            owed.activation.strip_prefix(UNMERGED).map(String::from)
        });
        owed.filter(|_| !seen.offline)
    }

    /// Tells how much the kernel gave when this was asked for in this boot, if that was less.
    fn fell_short(&self, seen: &Seen) -> Option<String> {
        if !self.partial {
            return None;
        }
        let record: Short = serde_json::from_slice(&seen.get(&Short::read(&self.path)).content()?.0).ok()?;
        let wanted = self.value.0.trim();
        let now = self.live().current(seen).ok().flatten()?;
        // After a rollback, or once somebody wrote another value, it is worth trying again.
        let same = record.path == self.path && record.wanted == wanted && record.found == now;
        (same && record.boot == seen.facts.boot.id && now != wanted).then_some(now)
    }
}

impl Resource for KernelValue {
    const KIND: &'static str = "kernel_value";
    const EXAMPLE: &'static str = "kernel_value: { path: /sys/kernel/mm/transparent_hugepage/enabled, value: madvise }";
    const SECRETS: &'static [&'static str] = &["value"];
    type State = State;

    fn name(&self) -> String {
        self.path.to_string()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = vec![];
        if !self.path.is_live() {
            let file = Problem::new(&["path"], format!("{} is not below /sys or /proc", self.path));
            problems.push(file.help("use `file` for a file"));
        }
        let value = self.value.0.trim();
        if value.is_empty() || value.len() > 4095 || value.contains(['\n', '\0']) {
            problems.push(Problem::new(&["value"], "a value is one line of 1 to 4095 bytes"));
        } else if matches!(self.compare, Some(Compare::Integer | Compare::AtLeast)) && sysctl::integer(value).is_none()
        {
            problems.push(Problem::new(&["value"], format!("`{value}` is no integer")));
        }
        problems
    }

    fn reads(&self, seen: &Seen) -> Vec<Read> {
        if seen.offline {
            return vec![];
        }
        let mut reads = self.live().rivals_reads();
        reads.push(self.live().read());
        reads.extend(self.surplus().map(Read::content));
        if self.is_of_ksm() {
            reads.extend(["run", "pages_shared", "advisor_mode"].map(|name| Read::content(Self::ksm(name))));
            reads.push(Owed::read());
        }
        if self.partial {
            reads.push(Short::read(&self.path));
        }
        reads
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        if seen.offline {
            return Ok(None);
        }
        let Some(value) = self.live().current(seen)? else {
            let missing = format!("this host has no {}", self.path);
            return if self.optional { Ok(None) } else { Err(Cannot::Unsupported(missing)) };
        };
        let surplus = self.surplus().and_then(|path| Self::number(seen, &path)).filter(|surplus| *surplus > 0);
        let value = match (surplus, Self::number(seen, &self.path)) {
            (Some(surplus), Some(all)) => (all - surplus).to_string(),
            _ => value,
        };
        // The record is due even where the write before the cut was the last one.
        Ok(Some(State { value, merging: self.left_unmerged(seen).map(|_| "interrupted".into()) }))
    }

    fn desired(&self, seen: &Seen, current: Option<&State>) -> Result<Option<State>, Cannot> {
        let Some(current) = current else { return Ok(None) };
        if self.fell_short(seen).is_some() {
            return Ok(Some(current.clone()));
        }
        Ok(Some(State { value: self.value.0.trim().into(), merging: self.left_unmerged(seen) }))
    }

    fn steps(&self, seen: &Seen, from: Option<&State>, to: Option<&State>) -> Result<Vec<Step>, Cannot> {
        let value = |state: Option<&State>| state.map(|state| state.value.clone());
        let mut steps = vec![];
        if value(from) != value(to) {
            let mut step = self.live().step(seen)?;
            step.may_fall_short = self.partial;
            steps.push(step);
        }
        let run = Self::ksm("run");
        let Ok(Some(shown)) = seen.text(&run) else { return Ok(steps) };
        let left = self.left_unmerged(seen);
        let merged = Self::number(seen, &Self::ksm("pages_shared")).is_some_and(|pages| pages > 0);
        let unmerges = self.needs_unmerged() && merged && !steps.is_empty();
        if !unmerges && left.is_none() {
            return Ok(steps);
        }
        // A cut between the first write and the last must not leave merging stopped for good.
        let before = left.unwrap_or_else(|| shown.trim().into());
        let record = format!("{UNMERGED}{before}");
        if unmerges {
            let mut unmerge = Live::new(run.clone(), "2").poke(shown);
            unmerge.owes.push(record.clone());
            steps.insert(0, unmerge);
        }
        let mut again = Live::new(run, before).poke(shown);
        again.settles.push(record);
        steps.push(again);
        Ok(steps)
    }

    /// Unmerging pages needs memory and time that guests feel (Documentation/admin-guide/mm/ksm.rst).
    fn disturbs(&self, _: Option<&State>, _: Option<&State>) -> Disruption {
        let unmerges =
            self.needs_unmerged() || (self.is_of_ksm() && self.path.file_name() == "run" && self.value.0 == "2");
        if unmerges { Disruption::Guests } else { Disruption::Nothing }
    }

    fn remarks(&self, seen: &Seen) -> Vec<Remark> {
        if seen.offline {
            return vec![];
        }
        let live = self.live();
        if matches!(seen.get(&live.read()), Answer::Absent) {
            let absent = Remark::warning(format!("this host has no {}", self.path));
            return if self.optional { vec![absent] } else { vec![] };
        }
        let mut remarks: Vec<Remark> = live.rivals(seen).into_iter().collect();
        let advisor = seen.text(&Self::ksm("advisor_mode")).ok().flatten().and_then(crate::host::matcher::choice);
        if self.is_of_ksm() && self.path.file_name() == "pages_to_scan" && advisor == Some("scan-time") {
            remarks.push(Remark::warning_with_help(
                format!("the kernel refuses to change {} while its advisor is `scan-time`", self.path),
                format!("set {} to `none` before", Self::ksm("advisor_mode")),
            ));
        }
        remarks.extend(self.fell_short(seen).map(|running| Remark::Short {
            attribute: self.path.to_string(),
            desired: self.value.0.trim().into(),
            running,
        }));
        remarks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::world::{World, wrong};

    const PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

    #[test]
    fn values_are_written_where_they_differ() {
        let enabled = "/sys/kernel/mm/transparent_hugepage/enabled";
        let mut world = World::of(&[(enabled, "always [madvise] never\n")]);
        let entry = |value: &str| format!("kernel_value: {{path: {enabled}, value: {value}}}");
        world.check(&entry("madvise"), &["converged"]);
        world.check(&entry("never"), &["update", &format!("write `never` to {enabled}")]);
        world.check(&entry("x"), &[&format!("refused: {enabled} offers `always`, `madvise`, `never`, not `x`")]);
        world.facts.tuned_profile = "virtual-host".into();
        let tuned =
            format!("warning: tuned applies its profile `virtual-host` later in boot and may set {enabled} again");
        world.check(&entry("madvise"), &["converged", &tuned]);
        world.clone().offline().check(&entry("never"), &["converged"]);
        world.check("kernel_value: {path: /sys/x, value: 1}", &["unsupported: this host has no /sys/x"]);
        world.check(
            "kernel_value: {path: /sys/x, value: 1, optional: true}",
            &["converged", "warning: this host has no /sys/x"],
        );
        wrong("kernel_value: {path: /etc/x, value: 1}", "1:22 /etc/x is not below /sys or /proc");
        wrong("kernel_value: {path: /sys/x, value: a, compare: integer}", "1:37 `a` is no integer");
        let mut locked = World::of(&[]).path("/sys/kernel/debug/x", Answer::Denied);
        locked.facts.lockdown = "integrity".into();
        locked.check(
            "kernel_value: {path: /sys/kernel/debug/x, value: 1}",
            &["refused: /sys/kernel/debug/x is closed by the kernel's lockdown (`integrity`)"],
        );
    }

    #[test]
    fn what_fell_short_is_not_tried_again_in_the_same_boot() {
        let entry = format!("kernel_value: {{path: {PAGES}, value: 512, partial: true}}");
        let world = World::of(&[(PAGES, "100\n")]);
        let write = format!("write `512` to {PAGES}");
        world.check(&entry, &["update", &write]);
        let record = |boot: &str, wanted: &str| {
            let short =
                Short { path: AbsPath::known(PAGES), wanted: wanted.into(), found: "100".into(), boot: boot.into() };
            world.clone().file(Short::place(&short.path).as_str(), &serde_json::to_string(&short).unwrap())
        };
        record("this boot", "512").check(&entry, &["converged", &format!("short: {PAGES} 512 / 100")]);
        record("this boot", "400").check(&entry, &["update", &write]);
        record("last boot", "512").check(&entry, &["update", &write]);
        record("this boot", "512").file(PAGES, "50\n").check(&entry, &["update", &write]);
        let surplus = "/sys/kernel/mm/hugepages/hugepages-2048kB/surplus_hugepages";
        World::of(&[(PAGES, "600\n"), (surplus, "88\n")]).check(&entry, &["converged"]);
    }

    #[test]
    fn merged_pages_are_unmerged_before_what_they_would_refuse() {
        let world = World::of(&[
            ("/sys/kernel/mm/ksm/run", "1\n"),
            ("/sys/kernel/mm/ksm/pages_shared", "7\n"),
            ("/sys/kernel/mm/ksm/merge_across_nodes", "1\n"),
            ("/sys/kernel/mm/ksm/pages_to_scan", "100\n"),
            ("/sys/kernel/mm/ksm/advisor_mode", "none [scan-time]\n"),
        ])
        .directory("/sys/fs/cgroup/system.slice/ksmtuned.service");
        world.check(
            "kernel_value: {path: /sys/kernel/mm/ksm/merge_across_nodes, value: 0}",
            &[
                "update",
                "write `2` to /sys/kernel/mm/ksm/run",
                "write `0` to /sys/kernel/mm/ksm/merge_across_nodes",
                "write `1` to /sys/kernel/mm/ksm/run",
            ],
        );
        // A run that was cut in between left a record, and nothing of the value is due.
        let activation = format!("{UNMERGED}1");
        let owed = Owed { activation, run: crate::host::run::RunId::new(0, 1) };
        let cut = world
            .clone()
            .file("/sys/kernel/mm/ksm/run", "2\n")
            .file("/sys/kernel/mm/ksm/pages_shared", "0\n")
            .file(Owed::path(&owed.activation).as_str(), &serde_json::to_string(&owed).unwrap());
        let run = "write `1` to /sys/kernel/mm/ksm/run";
        cut.check("kernel_value: {path: /sys/kernel/mm/ksm/merge_across_nodes, value: 1}", &["update", run]);
        cut.check(
            "kernel_value: {path: /sys/kernel/mm/ksm/merge_across_nodes, value: 0}",
            &["update", "write `0` to /sys/kernel/mm/ksm/merge_across_nodes", run],
        );
        world.check(
            "kernel_value: {path: /sys/kernel/mm/ksm/pages_to_scan, value: 100}",
            &[
                "converged",
                "warning: ksmtuned runs and rewrites /sys/kernel/mm/ksm/pages_to_scan every 60 seconds",
                "warning: the kernel refuses to change /sys/kernel/mm/ksm/pages_to_scan while its advisor is `scan-time`",
            ],
        );
    }
}
