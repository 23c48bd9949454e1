//! A kernel parameter of /proc/sys: now, and at each boot by sysctl.d(5).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cannot, Claim, Declaration, Ensure, Handle, Links, Memory, Problem, Remark, Resource, Seen,
    live::{Compare, Live},
    memory, own_file,
    scalar::Scalar,
    state::Action,
};
use crate::{
    host::{
        op::Step,
        path::AbsPath,
        read::{Answer, Read},
    },
    os::{
        conf_d::SYSCTL_DIRS,
        kernel::KernelVersion,
        sysctl::{self, Key, ValueError},
    },
};

/// A kernel parameter: its value now, and at each boot through a file in /etc/sysctl.d that belongs to vprov alone. All
/// parameters of one file are one resource. Values are compared as the kernel shows them: `0x3c` is 60, white space does
/// not count.
///
/// Removing it from the configuration, or `ensure: absent`, removes its line, and the running value stays until the next boot. A value, and
/// a file of which nothing is declared any more, are listed as orphaned; `--prune` brings back what was there before.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sysctl {
    /// The parameter, as `vm.swappiness`; with slashes where a part holds a dot, as `net/ipv4/conf/eth0.5/forwarding`.
    pub name: String,
    /// The value. Several numbers are separated by spaces.
    #[serde(default)]
    pub value: Option<Scalar>,
    /// The file in /etc/sysctl.d. Names are read in their order, and the last file that sets a parameter wins.
    #[serde(default = "default_file")]
    pub file: AbsPath,
    /// `present` or `absent`.
    #[serde(default)]
    pub ensure: Ensure,
    /// The other parameters of the file, once they are merged.
    #[serde(skip)]
    #[schemars(skip)]
    others: BTreeMap<String, Option<String>>,
}

fn default_file() -> AbsPath {
    AbsPath::known("/etc/sysctl.d/90-vprov.conf")
}

/// What is managed of a file and its parameters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// What the file says; `None` where there is none.
    file: Option<BTreeMap<String, String>>,
    /// What the kernel has; nothing where no kernel is.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    running: BTreeMap<String, String>,
}

const TUNED_MAIN: &str = "/etc/tuned/tuned-main.conf";

/// Parameters that appear with a module or a network interface, so that their absence now says nothing (sysctl.d(5)).
const LATE: [&str; 10] = [
    "net/bridge/",
    "net/netfilter/",
    "net/ipv4/conf/",
    "net/ipv4/neigh/",
    "net/ipv6/",
    "net/ipv4/vs/",
    "fs/nfs/",
    "fs/nfsd/",
    "sunrpc/",
    "dev/",
];

impl Sysctl {
    /// Returns the parameters of the file with their values; `None` for one that is not wanted.
    fn parameters(&self) -> impl Iterator<Item = (Key, Option<&str>)> {
        let own = (self.name.as_str(), self.value.as_ref().map(|value| value.0.as_str()));
        let own = (own.0, own.1.filter(|_| self.ensure == Ensure::Present));
        let others = self.others.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        others.chain([own]).filter_map(|(name, value)| Some((Key::new(name).ok()?, value)))
    }

    fn wanted(&self) -> BTreeMap<Key, String> {
        self.parameters().filter_map(|(key, value)| Some((key, value?.trim().to_owned()))).collect()
    }

    /// Returns what the file will hold; `None` for no file.
    fn content(&self) -> Result<Option<String>, Cannot> {
        let wanted = self.wanted();
        if wanted.is_empty() {
            return Ok(None);
        }
        sysctl::render(&wanted).map(Some).map_err(|error| Cannot::Refused(error.to_string()))
    }

    /// Returns the wanted values that this host's kernel has now or could have.
    fn live(&self, seen: &Seen) -> Vec<(Key, Live)> {
        let live = |(key, value): (Key, String)| {
            let compare = Some(if sysctl::integer(&value).is_some() { Compare::Integer } else { Compare::Words });
            let live = Live { path: key.proc_path()?, value, compare };
            Some((key, live))
        };
        if seen.offline { vec![] } else { self.wanted().into_iter().filter_map(live).collect() }
    }

    fn is_missing(live: &Live, seen: &Seen) -> bool {
        matches!(seen.get(&live.read()), Answer::Absent)
    }

    fn is_late(key: &Key) -> bool {
        LATE.iter().any(|prefix| key.slashed().starts_with(prefix))
    }

    /// Refuses what this kernel would not take.
    fn refuse_impossible(&self, seen: &Seen) -> Result<(), Cannot> {
        let kernel = seen.facts.kernel.version.parse::<KernelVersion>().ok();
        for (key, live) in self.live(seen) {
            let missing = Self::is_missing(&live, seen);
            match sysctl::check(&key, &live.value, kernel) {
                // A file is better evidence than a release.
                Err(ValueError::Gone { .. }) if !missing => {}
                Err(error) => return Err(Cannot::Refused(error.to_string())),
                Ok(()) => {}
            }
            if missing && !Self::is_late(&key) {
                return Err(Cannot::Refused(format!(
                    "this kernel has no parameter `{key}`: there is no {}",
                    live.path
                )));
            }
        }
        Ok(())
    }
}

/// Returns the parameter that shares its meaning with this one, both in a fixed order.
fn pair(key: &Key) -> Option<(Key, Key)> {
    let other = sysctl::coupled(key)?;
    Some(if *key < other { (key.clone(), other) } else { (other, key.clone()) })
}

impl Resource for Sysctl {
    const KIND: &'static str = "sysctl";
    const EXAMPLE: &'static str = "sysctl: { name: vm.swappiness, value: 35 }";
    const IN_FILES: &'static [&'static str] = &["file"];
    const SECRETS: &'static [&'static str] = &["value"];
    type State = State;

    fn name(&self) -> String {
        if self.others.is_empty() {
            return Key::new(&self.name).map_or_else(|_| self.name.clone(), |key| key.to_string());
        }
        self.file.to_string()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = vec![];
        let in_etc = self.file.parent().is_some_and(|parent| parent.as_str() == SYSCTL_DIRS[0]);
        if !in_etc || !self.file.file_name().ends_with(".conf") {
            let elsewhere = Problem::new(&["file"], format!("{} is not read by systemd-sysctl", self.file));
            problems.push(elsewhere.help("name a file like /etc/sysctl.d/90-vprov.conf"));
        }
        let key = match Key::new(&self.name) {
            Ok(key) if key.is_glob() => {
                let pattern = Problem::new(&["name"], format!("`{key}` is a pattern"));
                problems
                    .push(pattern.help("name each parameter; `for_each` makes one resource for each name of a list"));
                return problems;
            }
            Ok(key) => key,
            Err(error) => {
                problems.push(Problem::new(&["name"], error.to_string()));
                return problems;
            }
        };
        match (&self.value, self.ensure) {
            (None, Ensure::Present) => problems.push(Problem::new(&[], "`value` is missing")),
            (Some(_), Ensure::Absent) => {
                problems.push(Problem::new(&["value"], "a parameter that is `absent` has no value"));
            }
            (Some(value), Ensure::Present) => {
                problems.extend(
                    sysctl::check(&key, &value.0, None).err().map(|error| Problem::new(&["value"], error.to_string())),
                );
            }
            (None, Ensure::Absent) => {}
        }
        problems
    }

    /// Of two coupled parameters (`vm.dirty_bytes`, `vm.dirty_ratio`) only one can be declared: the other one becomes 0.
    fn claims(&self) -> Vec<Claim> {
        let Ok(key) = Key::new(&self.name) else { return vec![] };
        let value = self.value.as_ref().filter(|_| self.ensure == Ensure::Present);
        let value = format!("{} {:?}", self.file, value.map(|value| value.0.trim()));
        match pair(&key) {
            Some((one, other)) => vec![Claim { key: format!("{one} or {other}"), value: format!("{key} {value}") }],
            None => vec![Claim { key: key.to_string(), value }],
        }
    }

    fn merge_key(&self) -> Option<String> {
        Some(self.file.to_string())
    }

    fn absorb(&mut self, other: Self) {
        self.others.extend(other.parameters().map(|(key, value)| (key.to_string(), value.map(String::from))));
    }

    fn links(&self) -> Links {
        Links {
            provides: vec![Handle::Path(self.file.clone())],
            needs: self.file.parent().map(Handle::Path).into_iter().collect(),
        }
    }

    fn reads(&self, seen: &Seen) -> Vec<Read> {
        let mut reads = own_file::reads(&self.file);
        reads.extend(own_file::neighbours_reads(&SYSCTL_DIRS, ".conf"));
        for (key, live) in self.live(seen) {
            reads.push(live.read());
            reads.extend(sysctl::coupled(&key).and_then(|other| other.proc_path()).map(Read::content));
        }
        if !seen.facts.tuned_profile.is_empty() {
            reads.push(Read::content(AbsPath::known(TUNED_MAIN)));
        }
        reads
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        let file = own_file::text(seen, &self.file)?.map(|text| {
            let parsed = sysctl::parse(text.as_bytes());
            let said = parsed.assignments.into_iter().map(|said| {
                let dash = if said.ignore_failure || said.value.is_none() { "-" } else { "" };
                (format!("{dash}{}", said.key), said.value.unwrap_or_default())
            });
            let faults = parsed.faults.into_iter().map(|(line, why)| (format!("line {line}"), why));
            said.chain(faults).collect()
        });
        let mut running = BTreeMap::new();
        for (key, live) in self.live(seen) {
            running.extend(live.current(seen)?.map(|value| (key.to_string(), value)));
        }
        Ok(Some(State { file, running }))
    }

    fn desired(&self, seen: &Seen, _: Option<&State>) -> Result<Option<State>, Cannot> {
        self.refuse_impossible(seen)?;
        let wanted = self.wanted();
        let file: BTreeMap<String, String> = wanted.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
        let live = self.live(seen).into_iter().filter(|(_, live)| !Self::is_missing(live, seen));
        let running = live.map(|(key, live)| (key.to_string(), live.value)).collect();
        Ok(Some(State { file: Some(file).filter(|file| !file.is_empty()), running }))
    }

    fn action(&self, from: Option<&State>, to: Option<&State>) -> Option<Action> {
        match (&from?.file, &to?.file) {
            (None, Some(_)) => Some(Action::Create),
            (Some(_), None) => Some(Action::Delete),
            _ => None,
        }
    }

    fn steps(&self, seen: &Seen, from: Option<&State>, to: Option<&State>) -> Result<Vec<Step>, Cannot> {
        let file = |state: Option<&State>| state.and_then(|state| state.file.clone());
        let mut steps = vec![];
        if file(from) != file(to) {
            steps.extend(own_file::steps(seen, &self.file, self.content()?));
        }
        for (key, live) in self.live(seen) {
            let value = |state: Option<&State>| state.and_then(|state| state.running.get(&key.to_string()).cloned());
            if value(from) == value(to) {
                continue;
            }
            // Writing one of a couple sets the other to 0, and 0 is no value that can be written back into `dirty_bytes`:
            // writing the other's own value first makes the journal remember it, so that a rollback ends with it.
            if let Some(other) = sysctl::coupled(&key).and_then(|other| other.proc_path())
                && value(from).as_deref() == Some("0")
                && let Some(shown) = seen.text(&other)?
            {
                steps.push(Live::new(other, shown.trim()).poke(shown));
            }
            steps.push(live.step(seen)?);
        }
        Ok(steps)
    }

    /// A value that is 0 because its other is not is taken back by writing the other one: the kernel takes no 0 for it.
    fn remembers(&self, seen: &Seen, from: Option<&State>, _: Option<&State>, steps: &[Step]) -> Vec<Memory> {
        let mut memories = memory::of_steps(seen, steps, false);
        for (key, live) in self.live(seen) {
            let was = from.and_then(|state| state.running.get(&key.to_string()));
            let Some(other) = sysctl::coupled(&key).and_then(|other| other.proc_path()) else { continue };
            let Ok(Some(shown)) = seen.text(&other) else { continue };
            for memory in memories.iter_mut().filter(|memory| memory.thing == live.path.as_str()) {
                if was.is_some_and(|was| was == "0") {
                    let params = serde_json::json!({ "path": other, "value": shown.trim() });
                    memory.before = Declaration::new("kernel_value", params);
                }
            }
        }
        memories
    }

    fn remarks(&self, seen: &Seen) -> Vec<Remark> {
        let mut remarks = vec![];
        for (key, live) in self.live(seen) {
            if Self::is_missing(&live, seen) && Self::is_late(&key) {
                remarks.push(Remark::warning_with_help(
                    format!(
                        "`{key}` is not there now, and at boot it is set only if it is there before systemd-sysctl runs"
                    ),
                    "let a file in /etc/modules-load.d load its module",
                ));
            }
        }
        let content = self.content().unwrap_or_default();
        let files = own_file::neighbours(seen, &SYSCTL_DIRS, ".conf", &self.file, content.as_deref());
        for key in self.wanted().keys() {
            let Some(found) = sysctl::later_override(&files, &self.file, key) else { continue };
            let does = match found.value {
                Some(value) => format!("sets `{key}` to `{value}` at boot, after {}", self.file),
                None => format!("keeps `{key}` from being set at boot"),
            };
            remarks.push(Remark::warning_with_help(
                format!("{} {does}", found.place),
                "remove that line, or choose a `file:` whose name sorts after it",
            ));
        }
        if self.is_lost_to_tuned(seen) {
            remarks.push(Remark::warning_with_help(
                format!(
                    "tuned (profile `{}`) does not apply /etc/sysctl.d again after its own values",
                    seen.facts.tuned_profile
                ),
                format!("set `reapply_sysctl = 1` in {TUNED_MAIN}"),
            ));
        }
        remarks
    }
}

impl Sysctl {
    /// tuned applies the files of /etc after its own values unless it is told otherwise (tuned-main.conf(5)).
    fn is_lost_to_tuned(&self, seen: &Seen) -> bool {
        if seen.facts.tuned_profile.is_empty() || self.wanted().is_empty() {
            return false;
        }
        let text = seen.text(&AbsPath::known(TUNED_MAIN)).ok().flatten().unwrap_or_default();
        let set = |line: &str| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == "reapply_sysctl").then(|| matches!(value.trim(), "0" | "false" | "no" | "off"))
        };
        text.lines().filter_map(set).next_back().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        os::sysctl::HEADER,
        resource::{
            AnyResource,
            world::{World, outcome, parse, wrong},
        },
    };

    const OURS: &str = "/etc/sysctl.d/90-vprov.conf";
    const SWAPPINESS: &str = "sysctl: {name: vm.swappiness, value: 35}";

    fn world(file: &str, running: &str) -> World {
        let world = World::of(&[("/proc/sys/vm/swappiness", running)]).directory("/etc/sysctl.d");
        if file.is_empty() { world } else { world.file(OURS, &format!("{HEADER}{file}")) }
    }

    #[test]
    fn file_and_kernel_are_brought_there_each_by_itself() {
        let (write, poke) = ("write /etc/sysctl.d/90-vprov.conf", "write `35` to /proc/sys/vm/swappiness");
        world("", "60\n").check(SWAPPINESS, &["create", write, poke]);
        world("vm.swappiness = 35\n", "60\n").check(SWAPPINESS, &["update", poke]);
        world("vm.swappiness = 10\n", "35\n").check(SWAPPINESS, &["update", write]);
        world("vm.swappiness = 35\n", "35\n").check(SWAPPINESS, &["converged"]);
        world("vm.swappiness = 35\nvm.old = 1\n", "35\n").check(SWAPPINESS, &["update", write]);
        world("vm.swappiness = 0x23\n", "35\n").check("sysctl: {name: vm/swappiness, value: 0x23}", &["converged"]);
        let absent = "sysctl: {name: vm.swappiness, ensure: absent}";
        world("vm.swappiness = 35\n", "35\n").check(absent, &["delete", "remove /etc/sysctl.d/90-vprov.conf"]);
        world("", "35\n").check(absent, &["converged"]);
        world("", "60\n").offline().check(SWAPPINESS, &["create", write]);
        world("", "60\n")
            .link(OURS, "/dev/null")
            .check(SWAPPINESS, &["refused: /etc/sysctl.d/90-vprov.conf is a symbolic link to `/dev/null`, not a file"]);
    }

    #[test]
    fn parameters_of_one_file_are_one_resource() {
        let mut one = parse(SWAPPINESS).unwrap();
        one.absorb(parse("sysctl: {name: fs.aio-max-nr, value: 1048576}").unwrap());
        assert_eq!(one.address().to_string(), "sysctl[/etc/sysctl.d/90-vprov.conf]");
        let world = world("", "60\n").file("/proc/sys/fs/aio-max-nr", "65536\n");
        let observed = world.observe(&*one, &[]);
        let seen = Seen { observed: &observed, facts: &world.facts, offline: false };
        let comparison = one.compare(&seen);
        assert_eq!(
            outcome(&comparison),
            [
                "create",
                "write /etc/sysctl.d/90-vprov.conf",
                "write `1048576` to /proc/sys/fs/aio-max-nr",
                "write `35` to /proc/sys/vm/swappiness",
            ]
        );
        let fields: Vec<String> =
            comparison.result.unwrap().unwrap().fields.into_iter().map(|field| field.name).collect();
        assert_eq!(
            fields,
            ["file.fs.aio-max-nr", "file.vm.swappiness", "running.fs.aio-max-nr", "running.vm.swappiness"]
        );
    }

    #[test]
    fn overrides_are_told() {
        world("vm.swappiness = 35\n", "35\n").file("/etc/sysctl.d/99-x.conf", "\nvm.swappiness = 10\n").check(
            SWAPPINESS,
            &["converged", "warning: /etc/sysctl.d/99-x.conf:2 sets `vm.swappiness` to `10` at boot, after /etc/sysctl.d/90-vprov.conf"],
        );
        let mut tuned = world("vm.swappiness = 35\n", "35\n").file(TUNED_MAIN, "# x\nreapply_sysctl = 0\n");
        tuned.facts.tuned_profile = "virtual-host".into();
        tuned.check(
            SWAPPINESS,
            &[
                "converged",
                "warning: tuned (profile `virtual-host`) does not apply /etc/sysctl.d again after its own values",
            ],
        );
        world("net.bridge.x = 1\n", "60\n").check(
            "sysctl: {name: net.bridge.x, value: 1}",
            &[
                "converged",
                "warning: `net.bridge.x` is not there now, and at boot it is set only if it is there before systemd-sysctl runs",
            ],
        );
    }

    #[test]
    fn coupled_values_can_be_taken_back() {
        let couple = [("/proc/sys/vm/dirty_bytes", "0\n"), ("/proc/sys/vm/dirty_ratio", "20\n")];
        let world =
            couple.iter().fold(world("vm.dirty_bytes = 8192\n", "60\n"), |world, (path, text)| world.file(path, text));
        world.check(
            "sysctl: {name: vm.dirty_bytes, value: 8192}",
            &["update", "write `20` to /proc/sys/vm/dirty_ratio", "write `8192` to /proc/sys/vm/dirty_bytes"],
        );
        let key = |entry: &str| AnyResource::claims(parse(entry).unwrap().as_ref())[0].key.clone();
        assert_eq!(key("sysctl: {name: vm.dirty_bytes, value: 8192}"), "vm.dirty_bytes or vm.dirty_ratio");
        assert_eq!(key("sysctl: {name: vm.dirty_ratio, value: 2}"), "vm.dirty_bytes or vm.dirty_ratio");
    }

    #[test]
    fn what_cannot_be_is_refused() {
        wrong(
            "sysctl: {name: vm.swappiness, value: 250}",
            "1:38 `vm.swappiness` is `250`, but takes an integer from 0 to 200",
        );
        wrong("sysctl: {name: vm.swappiness}", "1:9 `value` is missing");
        wrong("sysctl: {name: vm.*, value: 1}", "1:16 `vm.*` is a pattern");
        wrong(
            "sysctl: {name: a, value: 1, file: /etc/sysctl.conf}",
            "1:35 /etc/sysctl.conf is not read by systemd-sysctl",
        );
        world("", "60\n").check(
            "sysctl: {name: vm.swapiness, value: 1}",
            &["refused: this kernel has no parameter `vm.swapiness`: there is no /proc/sys/vm/swapiness"],
        );
        let mut old = world("", "60\n");
        old.facts.kernel.version = "5.3".into();
        old.check(
            "sysctl: {name: vm.swappiness, value: 150}",
            &["refused: `vm.swappiness` is `150`, but takes an integer from 0 to 100"],
        );
        let gone = world("", "60\n").compare("sysctl: {name: kernel.numa_balancing_scan_size_mb, value: 256}");
        let Err(Cannot::Refused(why)) = gone.result else { panic!("{gone:?}") };
        assert!(why.starts_with("`kernel.numa_balancing_scan_size_mb` is gone since Linux 5.13"), "{why}");
        world("", "60\n")
            .path("/proc/sys/vm/swappiness", Answer::Denied)
            .check(SWAPPINESS, &["unknown: /proc/sys/vm/swappiness may not be read by this user"]);
    }
}
