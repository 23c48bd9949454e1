//! A mount: its entry in /etc/fstab, and whether it is mounted now as the entry says.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Cannot, Claim, Declaration, Disruption, Handle, Links, Memory, Problem, Remark, Resource, Seen, memory,
    seen::parents_reads, service::daemon_reload,
};
use crate::{
    host::{
        matcher::{self, Expectation, Matcher},
        op::{Check, Command, Op, Owner, Source, Step, UnderRoot, Undo},
        path::AbsPath,
        probe::Probe,
        read::{Answer, Output, Read},
    },
    os::{
        fstab::{self, Fstab, merge_options, split_options},
        mountinfo::{self, Remedy},
        systemd,
    },
};

const FSTAB: &str = "/etc/fstab";
const MOUNTINFO: &str = "/proc/self/mountinfo";

/// The word of a line of mountinfo that is the mount point (proc(5)).
const MOUNT_POINT: usize = 4;

/// Below this, in bytes, `rsize` and `wsize` are less than what client and server agree on by themselves (nfs(5)).
const NFS_DEFAULT_SIZE: u64 = 1 << 20;

/// A mount: its entry in /etc/fstab and, unless told otherwise, the live mount.
///
/// All mounts of a host are one edit of /etc/fstab: options that are not named and all other lines stay byte for byte, the new
/// file is checked by `findmnt --verify` before it is installed, and systemd reads it again. The mount point is made.
///
/// A live NFS mount is compared by what the kernel shows: the server may lower `rsize`, and options of user space
/// (`_netdev`, `nofail`, `x-systemd.*`) are never shown. What a remount cannot change (`vers`, `rsize`, `hard`, …) needs an
/// unmount, which guests with images there feel: `--allow guest-visible` says that they may. Below `--root` only the
/// entry is managed.
///
/// Removing it from the configuration leaves entry and mount, and plans list them as orphaned; `--prune` brings back the entry that was
/// there before, or unmounts and removes it. `ensure: absent` unmounts and removes the entry; the directory stays.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// The mount point.
    pub path: AbsPath,
    /// The device, `UUID=…`, `LABEL=…` or `SERVER:/PATH`. Needed unless `ensure: absent`.
    #[serde(default)]
    pub source: Option<String>,
    /// The type of the file system, as `nfs` or `ext4`. Needed unless `ensure: absent`.
    #[serde(default)]
    pub fstype: Option<String>,
    /// Options; each replaces what it contradicts (`ro` an `rw`), all others stay.
    #[serde(default)]
    pub options: Vec<String>,
    /// Whether dump(8) saves it. Unset: kept, or 0 for a new entry.
    #[serde(default)]
    pub dump: Option<u8>,
    /// The order of the check at boot, 0 for none. Unset: kept, or 0 for a new entry.
    #[serde(default)]
    pub pass: Option<u8>,
    /// `mounted` (entry and live mount), `present` (the entry alone) or `absent` (neither).
    #[serde(default)]
    pub ensure: Ensure,
    /// The options are all that there are; the ledger says so of what was there before.
    #[serde(default)]
    #[schemars(skip)]
    exact: bool,
    /// The other mounts of the host.
    #[serde(skip)]
    others: Vec<Mount>,
}

/// What is wanted of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ensure {
    /// An entry, and mounted now.
    #[default]
    Mounted,
    /// An entry; whether it is mounted now is not managed.
    Present,
    /// No entry, and not mounted now.
    Absent,
}

/// What is managed of all mounts, by mount point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct State(BTreeMap<String, One>);

/// What is managed of one mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct One {
    /// The entry; `null` where there is none.
    fstab: Option<Entry>,
    /// Whether systemd knows the mount as the file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    live: Option<Live>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Entry {
    source: String,
    fstype: String,
    options: String,
    dump: i32,
    pass: i32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Live {
    mounted: bool,
    /// What is mounted, where it is something else than wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    /// The options that differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<String>,
}

/// What it takes to make the live mount what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Nothing,
    Mount,
    Remount,
    MountAgain,
    Unmount,
}

impl Resource for Mount {
    const KIND: &'static str = "mount";
    const EXAMPLE: &'static str = "mount: { path: /mnt/images, source: \"nfs1:/exported/images\", fstype: nfs, options: [hard, _netdev, nofail] }";
    const OPAQUE: bool = true;
    const IN_FILES: &'static [&'static str] = &["fstab"];
    const SHARED: bool = true;
    type State = State;

    fn name(&self) -> String {
        if self.others.is_empty() { self.path.to_string() } else { FSTAB.into() }
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = vec![];
        if self.path.as_str() == "/" && self.ensure != Ensure::Present {
            let problem = Problem::new(&["path"], "the root of the system is never mounted or unmounted by vprov");
            problems.push(problem.help("say `ensure: present` to manage its entry alone"));
        }
        for (name, value) in [("source", &self.source), ("fstype", &self.fstype)] {
            if value.is_none() && self.ensure != Ensure::Absent {
                problems.push(Problem::new(&[], format!("a mount needs `{name}`")));
            }
        }
        for (at, option) in self.options.iter().enumerate() {
            let at = at.to_string();
            if split_options(option).len() != 1 || option.contains(char::is_whitespace) {
                let problem = Problem::new(&["options", &at], format!("`{option}` is not one option"));
                problems.push(problem.help("write each option as an item of the list, without white space"));
            }
        }
        if problems.is_empty()
            && self.ensure != Ensure::Absent
            && let Err(error) = Fstab::parse(b"").and_then(|mut fstab| fstab.set(&self.entry(None)))
        {
            problems.push(Problem::new(&[], error.to_string()));
        }
        problems
    }

    fn claims(&self) -> Vec<Claim> {
        self.all().map(|mount| Claim { key: mount.path.to_string(), value: format!("{:?}", mount.alone()) }).collect()
    }

    fn merge_key(&self) -> Option<String> {
        Some(FSTAB.into())
    }

    fn absorb(&mut self, mut other: Self) {
        let more = std::mem::take(&mut other.others);
        self.others.push(other);
        self.others.extend(more);
    }

    fn links(&self) -> Links {
        Links {
            provides: self.wanted().map(|mount| Handle::Mount(mount.path.clone())).collect(),
            needs: self.wanted().map(|mount| Handle::Path(mount.path.clone())).collect(),
        }
    }

    fn reads(&self, seen: &Seen) -> Vec<Read> {
        let mut reads = vec![Read::entry(AbsPath::known(FSTAB))];
        if !seen.offline {
            reads.extend([mounts_read(), verify()]);
            if seen.facts.init == "systemd" {
                reads.extend(self.all().map(Mount::unit));
            }
        }
        if seen.offline || seen.has(&mounts_read()) {
            // A directory below a server that does not answer is not asked for: the question would hang.
            let mounts = mounts(seen).unwrap_or_default();
            for mount in self.wanted().filter(|mount| mountinfo::at(&mounts, mount.path.as_str()).is_none()) {
                reads.push(Read::exists(mount.path.clone()));
                reads.extend(parents_reads(&mount.path));
            }
        }
        reads
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        let (fstab, mounts) = (read_fstab(seen)?, mounts(seen)?);
        let mut state = BTreeMap::new();
        for mount in self.all() {
            let entry = fstab.at(mount.path.as_str()).map(|(_, entry)| Entry::of(entry));
            if entry.is_none()
                && mount.ensure != Ensure::Absent
                && let answer @ (Answer::File { .. } | Answer::Special { .. }) =
                    seen.get(&Read::exists(mount.path.clone()))
            {
                return Err(Cannot::Refused(format!("{} is {}, not a directory", mount.path, answer.describe())));
            }
            let live = mount.live(seen, &mounts).map(|(live, ..)| live);
            state
                .insert(mount.path.to_string(), One { fstab: entry, unit: mount.stale(seen).then_some("stale"), live });
        }
        let nothing = |one: &One| one.fstab.is_none() && one.live.as_ref().is_none_or(|live| !live.mounted);
        Ok(if state.values().all(nothing) { None } else { Some(State(state)) })
    }

    fn desired(&self, seen: &Seen, _: Option<&State>) -> Result<Option<State>, Cannot> {
        let fstab = Fstab::parse(&self.edited(seen)?.1).map_err(|error| Cannot::Refused(in_fstab(&error)))?;
        let mounts = mounts(seen)?;
        let mut state = BTreeMap::new();
        for mount in self.all() {
            let entry = fstab.at(mount.path.as_str()).map(|(_, entry)| Entry::of(entry));
            let live = mount.live(seen, &mounts).map(|(_, live, _)| live);
            let unit = mount.stale(seen).then_some("loaded");
            state.insert(mount.path.to_string(), One { fstab: entry, unit, live });
        }
        Ok(if self.wanted().next().is_none() { self.absent(&state) } else { Some(State(state)) })
    }

    fn steps(&self, seen: &Seen, _: Option<&State>, _: Option<&State>) -> Result<Vec<Step>, Cannot> {
        let mounts = mounts(seen)?;
        let sorted: BTreeMap<&AbsPath, &Mount> = self.all().map(|mount| (&mount.path, mount)).collect();
        let way = |mount: &Mount| mount.live(seen, &mounts).map_or(Way::Nothing, |(.., way)| way);
        let mut steps = vec![];
        // What lies inside another mount goes first; and all goes before the file changes, so that a rollback mounts as before.
        for mount in sorted.values().rev().filter(|mount| matches!(way(mount), Way::Unmount | Way::MountAgain)) {
            let command = Command::new(mount.as_now(&mounts));
            let undo = match way(mount) {
                Way::Unmount => Undo::RunWhile { stands: mount.is_mounted(false).into(), command },
                // A rollback unmounts the new one right before.
                _ => Undo::Run(command),
            };
            steps.push(run(["umount", mount.path.as_str()], undo).after(mount.is_mounted(false)));
        }
        let mut made = BTreeSet::new();
        for mount in sorted.values().filter(|mount| mount.ensure != Ensure::Absent) {
            if *seen.get(&Read::exists(mount.path.clone())) == Answer::Absent {
                let mut directories = seen.make_parents(&mount.path);
                directories.push(seen.directory(&mount.path, Owner::root(0o755)));
                directories.retain(|step| step.op.path().is_some_and(|path| made.insert(path.clone())));
                steps.append(&mut directories);
            }
        }
        let (before, after) = self.edited(seen)?;
        let written = before != after;
        if written {
            steps.append(&mut install(seen, after));
        }
        let stale = self.all().any(|mount| mount.stale(seen));
        if !seen.offline && seen.facts.init == "systemd" && (written || stale) {
            steps.push(daemon_reload());
        }
        for mount in sorted.values() {
            match way(mount) {
                Way::Mount | Way::MountAgain => {
                    let command = Command::new(["umount", mount.path.as_str()]);
                    let undo = Undo::RunWhile { stands: mount.is_mounted(true).into(), command };
                    steps.push(run(["mount", mount.path.as_str()], undo).after(mount.is_mounted(true)));
                }
                Way::Remount => {
                    let argv = ["mount", "-o", "remount", mount.path.as_str()];
                    let undo = Undo::Run(Command::new(mount.remounted_as_now(&mounts)));
                    steps.push(run(argv, undo));
                }
                Way::Nothing | Way::Unmount => {}
            }
        }
        Ok(steps)
    }

    fn remarks(&self, seen: &Seen) -> Vec<Remark> {
        let mut remarks = vec![];
        if let Answer::Output(Output { status, .. }) = seen.get(&verify())
            && *status != 0
        {
            let text = format!(
                "`findmnt --verify` finds faults in {FSTAB} that are not vprov's, so it cannot judge the change"
            );
            remarks.push(Remark::warning_with_help(text, "run `findmnt --verify` on the host and repair them"));
        }
        let mounts = mounts(seen).unwrap_or_default();
        for mount in self.all() {
            if mount.live(seen, &mounts).is_some_and(|(.., way)| way == Way::MountAgain) {
                let text = format!("a remount cannot change {}; it is unmounted and mounted again", mount.path);
                remarks.push(Remark::warning_with_help(text, "stop or migrate the guests with images there first"));
            }
            remarks.extend(mount.advice());
        }
        remarks
    }

    fn disturbs(&self, from: Option<&State>, to: Option<&State>) -> Disruption {
        let live = |state: Option<&State>, path: &str| -> Option<Live> { state?.0.get(path)?.live.clone() };
        let of = |mount: &Mount| {
            let path = mount.path.as_str();
            match (live(from, path), live(to, path)) {
                (Some(from), to) if from.mounted && to.as_ref().is_none_or(|to| !to.mounted) => Disruption::Guests,
                (Some(from), Some(to)) if from.mounted && from != to => {
                    let again = from.source != to.source || !mount.remountable(&to);
                    if again { Disruption::Guests } else { Disruption::Service }
                }
                _ => Disruption::Nothing,
            }
        };
        self.all().map(of).max().unwrap_or_default()
    }

    fn remembers(&self, seen: &Seen, from: Option<&State>, to: Option<&State>, steps: &[Step]) -> Vec<Memory> {
        let mut memories: Vec<Memory> = self.all().filter_map(|one| one.memory(from, to)).collect();
        memories.extend(memory::of_steps(seen, steps, Self::SHARED));
        memories
    }

    fn things(&self, _: &Seen) -> BTreeSet<String> {
        let wanted = self.wanted().map(|mount| mount.path.to_string());
        wanted.chain(self.all().map(Mount::thing)).collect()
    }

    fn is_sensitive(&self, seen: &Seen) -> bool {
        seen.get(&Read::entry(AbsPath::known(FSTAB))).meta().is_some_and(|meta| meta.mode & 0o004 == 0)
    }
}

impl Mount {
    /// Returns what the ledger calls the entry and the live mount.
    fn thing(&self) -> String {
        format!("{FSTAB}:{}", self.path)
    }

    /// Returns what the ledger keeps of this one mount if it changes.
    fn memory(&self, from: Option<&State>, to: Option<&State>) -> Option<Memory> {
        let of = |state: Option<&State>| state.and_then(|state| state.0.get(self.path.as_str()).cloned());
        let (from, to) = (of(from), of(to));
        if from == to {
            return None;
        }
        let is_mounted = |one: &One| one.live.as_ref().is_some_and(|live| live.mounted);
        let declared = |entry: Option<&Entry>, mounted: bool| {
            let mut params = json!({ "path": self.path });
            match entry {
                None => params["ensure"] = json!("absent"),
                Some(entry) => {
                    let options: Vec<&str> = entry.options.split(',').collect();
                    params["source"] = json!(entry.source);
                    params["fstype"] = json!(entry.fstype);
                    params["options"] = json!(options);
                    params["dump"] = json!(entry.dump);
                    params["pass"] = json!(entry.pass);
                    params["ensure"] = json!(if mounted { "mounted" } else { "present" });
                    params["exact"] = json!(true);
                }
            }
            Declaration::new(Self::KIND, params)
        };
        let entry = |one: &Option<One>| one.as_ref().and_then(|one| one.fstab.clone());
        let mounted = |one: &Option<One>| one.as_ref().is_some_and(is_mounted);
        // What is mounted without an entry cannot be declared.
        if mounted(&from) && entry(&from).is_none() {
            return None;
        }
        let left = declared(entry(&to).as_ref(), mounted(&to));
        Some(Memory::new(self.thing(), left, declared(entry(&from).as_ref(), mounted(&from))))
    }

    fn all(&self) -> impl Iterator<Item = &Mount> {
        std::iter::once(self).chain(&self.others)
    }

    fn wanted(&self) -> impl Iterator<Item = &Mount> {
        self.all().filter(|mount| mount.ensure != Ensure::Absent)
    }

    fn alone(&self) -> Self {
        Self { others: vec![], ..self.clone() }
    }

    /// Returns the state of mounts none of which is wanted: absent, unless systemd has still to learn it.
    fn absent(&self, state: &BTreeMap<String, One>) -> Option<State> {
        state.values().any(|one| one.unit.is_some()).then(|| State(state.clone()))
    }

    fn is_nfs(&self) -> bool {
        self.fstype.as_deref().is_some_and(|fstype| fstype == "nfs" || fstype == "nfs4")
    }

    fn unit(&self) -> Read {
        Read::Probe(Probe::unit(systemd::PROPERTIES, &systemd::mount_unit(&self.path)))
    }

    /// Tells whether systemd has yet to read what /etc/fstab says of the mount.
    fn stale(&self, seen: &Seen) -> bool {
        let text = seen.get(&self.unit()).text();
        text.and_then(|text| systemd::parse_show(text).ok()).is_some_and(|unit| unit.need_daemon_reload)
    }

    /// Returns the entry that is wanted, given the one that is there.
    fn entry(&self, present: Option<&fstab::Entry>) -> fstab::Entry {
        let present_options = present.filter(|_| !self.exact).map_or(&[][..], |entry| &entry.options);
        let mut options = merge_options(present_options, &self.options);
        if options.is_empty() {
            options.push("defaults".into());
        }
        fstab::Entry {
            spec: self.source.clone().unwrap_or_default(),
            file: self.path.to_string(),
            fstype: self.fstype.clone().unwrap_or_default(),
            options,
            freq: self.dump.map(i32::from).or(present.map(|entry| entry.freq)).unwrap_or(0),
            passno: self.pass.map(i32::from).or(present.map(|entry| entry.passno)).unwrap_or(0),
        }
    }

    /// Returns /etc/fstab as it is and as it shall be.
    fn edited(&self, seen: &Seen) -> Result<(Vec<u8>, Vec<u8>), Cannot> {
        let mut fstab = read_fstab(seen)?;
        let before = fstab.render();
        for mount in self.all() {
            let present = fstab.at(mount.path.as_str()).map(|(line, entry)| (line, entry.clone()));
            let other = present
                .as_ref()
                .filter(|(_, entry)| mount.source.as_deref().is_some_and(|source| trim(source) != trim(&entry.spec)));
            if mount.ensure == Ensure::Absent {
                if let Some((line, entry)) = other {
                    let text = format!("line {line} of {FSTAB} mounts `{}` at {}", entry.spec, mount.path);
                    return Err(Cannot::Refused(format!("{text}, which is not the source that shall be absent")));
                }
                if let Some((_, entry)) = present {
                    fstab.remove(&entry.spec, &entry.file);
                }
                continue;
            }
            let wanted = mount.entry(present.as_ref().map(|(_, entry)| entry));
            // Another export of an NFS server is a change; another disk is more likely a mistake.
            let moved = other.is_some_and(|(_, entry)| mount.is_nfs() && entry.fstype.starts_with("nfs"));
            let set = if moved { fstab.replace(&wanted) } else { fstab.set(&wanted) };
            set.map_err(|error| Cannot::Refused(in_fstab(&error)))?;
        }
        let after = fstab.render();
        Ok((before, after))
    }

    /// Returns what the kernel has now, what it shall have, and the way there; `None` where that is not managed.
    fn live(&self, seen: &Seen, mounts: &[mountinfo::Mount]) -> Option<(Live, Live, Way)> {
        if seen.offline || self.ensure == Ensure::Present {
            return None;
        }
        let plain = |mounted| Live { mounted, source: None, options: None };
        let live = mountinfo::at(mounts, self.path.as_str());
        let (live, wanted) = match (live, self.ensure == Ensure::Absent) {
            (None, true) => return Some((plain(false), plain(false), Way::Nothing)),
            (None, false) => return Some((plain(false), plain(true), Way::Mount)),
            (Some(_), true) => return Some((plain(true), plain(false), Way::Unmount)),
            // The first access mounts what systemd's automount waits for.
            (Some(live), false) if live.fstype == "autofs" => return Some((plain(true), plain(true), Way::Nothing)),
            (Some(live), false) => (live, self.source.as_deref().unwrap_or_default()),
        };
        let other_type = match self.fstype.as_deref() {
            Some("auto" | "none" | "bind") | None => false,
            Some("nfs") => !live.fstype.starts_with("nfs"),
            Some(fstype) => live.fstype != fstype && !live.fstype.starts_with("fuse"),
        };
        // A disk has many names; only those of a server are the same in both places.
        if other_type || (self.is_nfs() && trim(&live.source) != trim(wanted)) {
            let of = |source: &str| Live { mounted: true, source: Some(source.into()), options: None };
            return Some((of(&live.source), of(wanted), Way::MountAgain));
        }
        let differences = self.differences(live);
        let Some(remedy) = differences.iter().map(|difference| difference.remedy).max() else {
            return Some((plain(true), plain(true), Way::Nothing));
        };
        let shown = |difference: &mountinfo::Difference| match &difference.live {
            Some(live) => live.clone(),
            None => format!("no {}", difference.wanted),
        };
        let options = |texts: Vec<String>| Live { mounted: true, source: None, options: Some(texts.join(",")) };
        let now = options(differences.iter().map(shown).collect());
        let then = options(differences.iter().map(|difference| difference.wanted.clone()).collect());
        Some((now, then, if remedy == Remedy::Remount { Way::Remount } else { Way::MountAgain }))
    }

    /// Returns the program that mounts what is mounted now, whatever /etc/fstab says of it (mount(8)).
    fn as_now(&self, mounts: &[mountinfo::Mount]) -> Vec<String> {
        let path = self.path.as_str();
        // What is bound from elsewhere is not told by its source.
        let Some(live) = mountinfo::at(mounts, path).filter(|live| live.root == "/") else {
            return ["mount", path].map(String::from).into();
        };
        let mut options = live.options.clone();
        options.extend(live.super_options.iter().filter(|option| !live.options.contains(option)).cloned());
        ["mount", "-t", &live.fstype, "-o", &options.join(","), &live.source, path].map(String::from).into()
    }

    /// Returns the program that gives the mount the options that it has now, beyond those that /etc/fstab names.
    fn remounted_as_now(&self, mounts: &[mountinfo::Mount]) -> Vec<String> {
        let path = self.path.as_str();
        let live = mountinfo::at(mounts, path);
        let has = |name: &str| live.is_some_and(|live| live.options.iter().any(|option| option == name));
        let mut options: Vec<String> = live.map_or(vec![], |live| live.options.clone());
        options
            .extend(["suid", "dev", "exec"].iter().filter(|word| !has(&format!("no{word}"))).map(ToString::to_string));
        let is_sync = live.is_some_and(|live| live.super_options.iter().any(|option| option == "sync"));
        options.push(if is_sync { "sync" } else { "async" }.into());
        ["mount", "-o", &format!("remount,{}", options.join(",")), path].map(String::from).into()
    }

    /// Returns the options that the live mount lacks.
    fn differences(&self, live: &mountinfo::Mount) -> Vec<mountinfo::Difference> {
        let mut differences = mountinfo::nfs_differences(&self.options, live);
        if !self.is_nfs() {
            // Of other file systems only what belongs to the mount point is known, and what the kernel shows in the same words.
            differences.retain(|difference| {
                difference.remedy == Remedy::Remount
                    || difference.live.as_ref().is_some_and(|live| !same(live, &difference.wanted))
            });
            for difference in &mut differences {
                difference.remedy = Remedy::Remount;
            }
        }
        differences
    }

    /// Tells whether a remount is enough for options that differ.
    fn remountable(&self, to: &Live) -> bool {
        let of_mount_point = ["rw", "sync", "atime", "suid", "dev", "exec", "diratime"];
        let options = to.options.as_deref().map(split_options).unwrap_or_default();
        !self.is_nfs() || options.iter().all(|option| of_mount_point.contains(&fstab::meaning(option).as_str()))
    }

    fn is_mounted(&self, there: bool) -> Expectation {
        // The kernel escapes white space and `\`, but not `#` (linux fs/proc_namespace.c).
        let word = fstab::escape(self.path.as_str()).replace("\\043", "#");
        Expectation::new(mounts_read(), Matcher::Word { at: MOUNT_POINT, word, there })
    }

    /// Returns what the guide's values cost on today's NFS (guide 4.4.1).
    fn advice(&self) -> Vec<Remark> {
        let mut remarks = vec![];
        if !self.is_nfs() || self.ensure == Ensure::Absent {
            return remarks;
        }
        for option in &self.options {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            match (name, value.parse::<u64>()) {
                ("rsize" | "wsize", Ok(size)) if size < NFS_DEFAULT_SIZE => {
                    let size = mountinfo::effective_size(size);
                    remarks.push(Remark::warning_with_help(
                        format!("`{option}` on {} limits each request to {size} bytes", self.path),
                        format!("leave `{name}` out: client and server then agree on the largest, up to 1 MiB"),
                    ));
                }
                ("soft" | "softerr", _) => remarks.push(Remark::warning_with_help(
                    format!("`{option}` on {} gives guests I/O errors while the server does not answer", self.path),
                    "use `hard` for disk images: requests then wait for the server",
                )),
                _ => {}
            }
        }
        remarks
    }
}

impl Entry {
    fn of(entry: &fstab::Entry) -> Self {
        Self {
            source: entry.spec.clone(),
            fstype: entry.fstype.clone(),
            options: entry.options.join(","),
            dump: entry.freq,
            pass: entry.passno,
        }
    }
}

/// Returns the steps that replace /etc/fstab.
fn install(seen: &Seen, content: Vec<u8>) -> Vec<Step> {
    let path = AbsPath::known(FSTAB);
    let owner = seen.owner_or(&path, Owner::root(0o644));
    let digest = crate::host::bytes::Digest::of(&content);
    let announced = Matcher::File { digest, mode: owner.mode, uid: owner.uid, gid: owner.gid };
    let mut steps = vec![Step::new(Op::Stage { name: "fstab".into(), source: Source::Content(content.into()) })];
    // A file that findmnt complains about already says nothing about the change.
    if matches!(seen.get(&verify()), Answer::Output(Output { status: 0, .. })) {
        let check = Command::new(["findmnt", "--verify", "--tab-file", "{}"]).with_staged("fstab");
        steps.push(Step::new(Op::Check(Check::Succeeds(check.under_root(UnderRoot::AsIs)))));
    }
    let op = Op::Install { name: "fstab".into(), path: path.clone(), owner, derived: false };
    steps.push(seen.guarded(&path, op, announced));
    steps
}

fn read_fstab(seen: &Seen) -> Result<Fstab, Cannot> {
    let content = seen.entry(&AbsPath::known(FSTAB))?.map_or(&[][..], |content| &content.0);
    Fstab::parse(content).map_err(|error| Cannot::Refused(in_fstab(&error)))
}

fn in_fstab(error: &fstab::FstabError) -> String {
    format!("{FSTAB}: {error}")
}

fn mounts(seen: &Seen) -> Result<Vec<mountinfo::Mount>, Cannot> {
    if seen.offline {
        return Ok(vec![]);
    }
    let content = seen.content(&AbsPath::known(MOUNTINFO))?.map_or(&[][..], |content| &content.0);
    mountinfo::parse(content).map_err(|error| Cannot::Refused(error.to_string()))
}

fn mounts_read() -> Read {
    Read::content(AbsPath::known(MOUNTINFO))
}

fn verify() -> Read {
    Read::Probe(Probe::once(["findmnt", "--verify", "--tab-file", FSTAB]))
}

fn run<const N: usize>(argv: [&str; N], undo: Undo) -> Step {
    Step::new(Op::Run { command: Command::new(argv), produces: vec![], undo })
}

fn trim(path: &str) -> &str {
    if path.len() > 1 { path.trim_end_matches('/') } else { path }
}

/// Tells whether an option that the kernel shows says what is wanted: `pagesize=1G` is shown as `pagesize=1024M`, `mode=0700` as
/// `mode=700`. A share of the memory and the name of a user or group are shown as other numbers (linux mm/shmem.c; mount(8)),
/// which cannot be told from the wanted one.
fn same(shown: &str, wanted: &str) -> bool {
    let (Some((name, now)), Some((_, value))) = (shown.split_once('='), wanted.split_once('=')) else {
        return shown == wanted;
    };
    let octal = |text: &str| u32::from_str_radix(text, 8).ok();
    match name {
        _ if now == value => true,
        "mode" => octal(now).is_some() && octal(now) == octal(value),
        "uid" | "gid" => value.parse::<u32>().is_err(),
        "size" if value.ends_with('%') => true,
        _ => matcher::size(now).is_some() && matcher::size(now) == matcher::size(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::world::{World, parse, plan_of};

    const IMAGES: &str =
        "mount: { path: /mnt/images, source: \"nfs1:/x\", fstype: nfs, options: [hard, rsize=1048576] }";
    const LINE: &str = "nfs1:/x /mnt/images nfs hard,rsize=1048576 0 0\n";
    const LIVE: &str =
        "90 27 0:50 / /mnt/images rw,relatime shared:9 - nfs4 nfs1:/x rw,vers=4.2,rsize=1048576,hard,proto=tcp\n";

    fn world(fstab: &str, mounts: &str) -> World {
        let root = "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n";
        World::systemd().file("/etc/fstab", fstab).file(MOUNTINFO, &format!("{root}{mounts}"))
    }

    fn check(world: &World, entry: &str, fields: &[&str], steps: &[&str], disturbs: Disruption) {
        let comparison = world.compare(entry);
        let found = comparison.result.clone().unwrap().map_or(Disruption::Nothing, |difference| difference.disturbs);
        assert_eq!(found, disturbs, "{entry}");
        let (found, done) = plan_of(comparison).unwrap();
        assert_eq!(found, fields, "{entry}");
        assert_eq!(done, steps, "{entry}");
    }

    fn refused(world: &World, entry: &str, words: &str) {
        match world.plan(entry) {
            Err(Cannot::Refused(text)) => assert!(text.contains(words), "{text}"),
            other => panic!("{entry}: {other:?}"),
        }
    }

    #[test]
    fn a_new_mount_has_directory_entry_and_live_mount() {
        let (_, done) = world("# mine\n", "").directory("/mnt").plan(IMAGES).unwrap();
        assert_eq!(
            done,
            [
                "make directory /mnt/images",
                "stage the new content",
                "install /etc/fstab",
                "run systemctl --no-ask-password daemon-reload",
                "run mount /mnt/images",
            ]
        );
        let verified = world("# mine\n", "").directory("/mnt/images").program(
            &Probe::once(["findmnt", "--verify", "--tab-file", FSTAB]),
            0,
            "",
        );
        let (_, done) = verified.plan(IMAGES).unwrap();
        assert_eq!(done[1], "check by findmnt --verify --tab-file {}");
        let present = IMAGES.replace("fstype", "ensure: present, fstype");
        let (_, done) = verified.plan(&present).unwrap();
        assert_eq!(done.last().unwrap(), "run systemctl --no-ask-password daemon-reload");
    }

    #[test]
    fn a_right_mount_is_left_alone_and_a_wrong_one_changed_as_little_as_possible() {
        check(&world(LINE, LIVE), IMAGES, &[], &[], Disruption::Nothing);
        check(&world(LINE, &LIVE.replace("=1048576", "=262144")), IMAGES, &[], &[], Disruption::Nothing);
        check(
            &world(LINE, "").directory("/mnt/images"),
            IMAGES,
            &["/mnt/images.live.mounted: false -> true"],
            &["run mount /mnt/images"],
            Disruption::Nothing,
        );
        let ro = IMAGES.replace("hard,", "hard, ro,");
        check(
            &world(LINE, LIVE),
            &ro,
            &[
                "/mnt/images.fstab.options: \"hard,rsize=1048576\" -> \"hard,rsize=1048576,ro\"",
                "/mnt/images.live.options: \"rw\" -> \"ro\"",
            ],
            &[
                "stage the new content",
                "install /etc/fstab",
                "run systemctl --no-ask-password daemon-reload",
                "run mount -o remount /mnt/images",
            ],
            Disruption::Service,
        );
        check(
            &world(&LINE.replace("hard,", "hard,vers=3,"), LIVE),
            &IMAGES.replace("hard,", "hard, vers=3,"),
            &["/mnt/images.live.options: \"vers=4.2\" -> \"vers=3\""],
            &["run umount /mnt/images", "run mount /mnt/images"],
            Disruption::Guests,
        );
        let (fields, done) = world(&LINE.replace("/x", "/y"), &LIVE.replace("/x", "/y")).plan(IMAGES).unwrap();
        assert_eq!(fields.len(), 2);
        assert_eq!(
            (done[0].as_str(), done.last().unwrap().as_str()),
            ("run umount /mnt/images", "run mount /mnt/images")
        );
    }

    #[test]
    fn what_is_absent_is_unmounted_first() {
        let absent = "mount: { path: /mnt/images, ensure: absent }";
        check(
            &world(LINE, LIVE),
            absent,
            &[
                "/mnt/images.fstab.source: \"nfs1:/x\" -> null",
                "/mnt/images.fstab.fstype: \"nfs\" -> null",
                "/mnt/images.fstab.options: \"hard,rsize=1048576\" -> null",
                "/mnt/images.fstab.dump: 0 -> null",
                "/mnt/images.fstab.pass: 0 -> null",
                "/mnt/images.live.mounted: true -> null",
            ],
            &[
                "run umount /mnt/images",
                "stage the new content",
                "install /etc/fstab",
                "run systemctl --no-ask-password daemon-reload",
            ],
            Disruption::Guests,
        );
        check(&world("# mine\n", ""), absent, &[], &[], Disruption::Nothing);
        refused(&world(LINE, ""), "mount: { path: /mnt/images, source: \"nfs9:/\", ensure: absent }", "not the source");
    }

    #[test]
    fn what_cannot_be_edited_is_refused() {
        refused(&world("a /b\n", ""), IMAGES, "line 1 `a /b` is broken");
        refused(&world("a /b ext4\nc /b/ ext4\n", ""), IMAGES, "both mount at");
        refused(&world("/dev/vdb /mnt/images ext4\n", ""), IMAGES, "already mounts `/dev/vdb`");
        refused(&world("", "").file("/mnt/images", ""), IMAGES, "not a directory");
        refused(&World::default().link("/etc/fstab", "x"), IMAGES, "symbolic link");
        let denied = World::default().path("/etc/fstab", Answer::Denied).plan(IMAGES);
        assert!(matches!(denied, Err(Cannot::Unknown(_))));
        for (entry, words) in [
            ("mount: { path: /mnt, fstype: nfs }", "needs `source`"),
            ("mount: { path: /mnt, source: a }", "needs `fstype`"),
            ("mount: { path: /mnt, source: a, fstype: nfs, options: [\"a b\"] }", "not one option"),
            ("mount: { path: /mnt, source: a, fstype: nfs, options: [\"a,b\"] }", "not one option"),
            ("mount: { path: /, source: a, fstype: ext4 }", "root of the system"),
            ("mount: { path: mnt, source: a, fstype: ext4 }", "relative"),
            ("mount: { path: /mnt, source: \"\", fstype: ext4 }", "is empty"),
        ] {
            let error = parse(entry).err().unwrap_or_default();
            assert!(error.contains(words), "{entry}: {error}");
        }
    }

    #[test]
    fn mounts_of_a_host_are_one_edit() {
        let mut one = parse(IMAGES).unwrap();
        let other = "mount: { path: /mnt/images/iso, source: \"nfs1:/iso\", fstype: nfs, options: [ro] }";
        one.absorb(parse(other).unwrap());
        assert_eq!(one.address().name, FSTAB);
        assert_eq!(one.claims().len(), 2);
        let world = world("", "");
        let observed = world.observe(&*one, &[]);
        let seen = Seen { observed: &observed, facts: &world.facts, offline: false };
        let done = super::super::world::shown(&one.compare(&seen).result.unwrap().unwrap().steps);
        let expected = ["make directory /mnt", "make directory /mnt/images", "make directory /mnt/images/iso"];
        assert_eq!(done[..3], expected);
        assert_eq!(
            done[3..],
            [
                "stage the new content",
                "install /etc/fstab",
                "run systemctl --no-ask-password daemon-reload",
                "run mount /mnt/images",
                "run mount /mnt/images/iso",
            ]
        );
    }

    #[test]
    fn below_a_root_only_the_entry_counts() {
        let root = World::default().offline().file("/etc/fstab", LINE).directory("/mnt/images");
        check(&root, IMAGES, &[], &[], Disruption::Nothing);
        let (_, done) = World::default().offline().file("/etc/fstab", "").plan(IMAGES).unwrap();
        assert_eq!(
            done,
            ["make directory /mnt", "make directory /mnt/images", "stage the new content", "install /etc/fstab"]
        );
    }

    #[test]
    fn other_file_systems_are_compared_by_what_the_kernel_shows() {
        let live = "91 27 0:51 / /dev/hugepages1G rw,relatime - hugetlbfs hugetlbfs rw,pagesize=1024M\n";
        let entry = "mount: { path: /dev/hugepages1G, source: hugetlbfs, fstype: hugetlbfs, options: [pagesize=1G] }";
        check(
            &world("hugetlbfs /dev/hugepages1G hugetlbfs pagesize=1G 0 0\n", live),
            entry,
            &[],
            &[],
            Disruption::Nothing,
        );
    }

    #[test]
    fn small_requests_and_soft_mounts_are_told() {
        let entry = IMAGES.replace("hard, rsize=1048576", "soft, rsize=8192");
        let remarks = world(LINE, LIVE).compare(&entry).remarks;
        assert_eq!(remarks.len(), 3, "{remarks:?}");
    }

    #[test]
    fn what_the_kernel_shows_in_other_words_is_no_difference() {
        let live = "91 27 0:51 / /mnt/t rw,relatime - tmpfs tmpfs rw,size=1024k,nr_inodes=10240,mode=700,gid=36\n";
        let check = |option: &str, there: bool| {
            let entry = format!("mount: {{ path: /mnt/t, source: tmpfs, fstype: tmpfs, options: [\"{option}\"] }}");
            let fstab = format!("tmpfs /mnt/t tmpfs {option} 0 0\n");
            let comparison = world(&fstab, live).compare(&entry);
            assert_eq!(plan_of(comparison).unwrap().0.is_empty(), there, "{option}");
        };
        for option in ["size=1m", "size=1048576", "nr_inodes=10k", "mode=0700", "mode=700", "gid=kvm", "size=50%"] {
            check(option, true);
        }
        for option in ["size=2m", "mode=0755", "gid=37", "nr_inodes=1k"] {
            check(option, false);
        }
    }
}
