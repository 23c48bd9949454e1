//! Rules of tmpfiles.d, and the values that they write, now.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cannot, Claim, Ensure, Handle, Links, Problem, Remark, Resource, Seen, live::Live, own_file, scalar::Scalar,
    state::Action,
};
use crate::{
    host::{
        op::Step,
        path::AbsPath,
        read::{Answer, Read, Want},
    },
    os::{
        conf_d::TMPFILES_DIRS,
        glob,
        tmpfiles::{self, Rule as Line},
    },
};

/// Rules of systemd-tmpfiles(8), in a file of /etc/tmpfiles.d that belongs to vprov alone and is read at each boot. A rule of
/// type `w` for a file of /proc or /sys also gives that value now. In tmpfiles.d the file whose name comes first wins.
///
/// Removing it from the configuration leaves the file and the values, and plans list them as orphaned; `--prune` brings back what
/// was there before. `ensure: absent` removes the file; the running values stay until the next boot.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tmpfiles {
    /// A name for the file, which is `/etc/tmpfiles.d/10-vprov-NAME.conf`.
    pub name: String,
    /// The rules, in the order in which they are carried out.
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Another file in /etc/tmpfiles.d.
    #[serde(default)]
    pub file: Option<AbsPath>,
    /// Whether values of the kernel are also set now.
    #[serde(default = "yes")]
    pub running: bool,
    /// `present` or `absent`.
    #[serde(default)]
    pub ensure: Ensure,
}

/// One rule (tmpfiles.d(5)).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The type with its modifiers: `w` writes into a file that exists, `d` makes a directory.
    #[serde(default = "write", rename = "type")]
    pub kind: String,
    /// The path, which may be a pattern.
    pub path: String,
    /// What is written, or what the type takes as argument.
    #[serde(default)]
    pub argument: Option<Scalar>,
    /// The mode, as "0755".
    #[serde(default)]
    pub mode: Option<String>,
    /// The owner.
    #[serde(default)]
    pub user: Option<String>,
    /// The group.
    #[serde(default)]
    pub group: Option<String>,
    /// The age after which contents are removed, as `10d`.
    #[serde(default)]
    pub age: Option<String>,
}

fn yes() -> bool {
    true
}

fn write() -> String {
    "w".into()
}

/// What is managed of a file of rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// Its lines without comments; `None` where there is no file.
    file: Option<Vec<String>>,
    /// What the kernel has.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    running: BTreeMap<String, String>,
}

impl Rule {
    fn line(&self) -> Line {
        // A path in normal form is what is read back.
        let path = AbsPath::new(self.path.as_str()).map_or_else(|_| self.path.clone(), |path| path.to_string());
        Line {
            kind: self.kind.clone(),
            path,
            mode: self.mode.clone(),
            user: self.user.clone(),
            group: self.group.clone(),
            age: self.age.clone(),
            argument: self.argument.as_ref().map(|argument| argument.0.clone()),
        }
    }

    /// Returns the value that the rule gives to the kernel; `w+` appends, which is for no value.
    fn value(&self) -> Option<&str> {
        let is_live = ["/proc/", "/sys/"].iter().any(|prefix| self.path.starts_with(prefix));
        let writes = self.kind.starts_with('w') && !self.kind.contains('+');
        self.argument.as_ref().filter(|_| writes && is_live).map(|argument| argument.0.trim())
    }
}

impl Tmpfiles {
    fn file(&self) -> AbsPath {
        self.file.clone().unwrap_or_else(|| {
            AbsPath::known("/etc/tmpfiles.d")
                .join(&format!("10-vprov-{}.conf", self.name))
                .unwrap_or_else(|_| AbsPath::known("/etc/tmpfiles.d/10-vprov.conf"))
        })
    }

    fn rules(&self) -> &[Rule] {
        if self.ensure == Ensure::Present { &self.rules } else { &[] }
    }

    fn content(&self) -> Result<Option<String>, Cannot> {
        let lines: Vec<Line> = self.rules().iter().map(Rule::line).collect();
        if lines.is_empty() {
            return Ok(None);
        }
        tmpfiles::render(&lines).map(Some).map_err(|error| Cannot::Refused(error.to_string()))
    }

    fn glob(rule: &Rule) -> Option<Read> {
        glob::is_pattern(&rule.path).then(|| Read::Glob { pattern: rule.path.clone(), want: Want::Meta })
    }

    /// Returns the paths that a rule names on this host now; none where nothing runs.
    fn paths(rule: &Rule, seen: &Seen) -> Vec<AbsPath> {
        match Self::glob(rule) {
            Some(glob) => match seen.get(&glob) {
                Answer::Paths(paths) => paths.iter().map(|(path, _)| path.clone()).collect(),
                _ => vec![],
            },
            None => AbsPath::new(rule.path.as_str()).into_iter().collect(),
        }
    }

    /// Returns the values that the kernel shall have now. Of two rules for one file the later decides, as at boot.
    fn live(&self, seen: &Seen) -> BTreeMap<AbsPath, Live> {
        if seen.offline || !self.running {
            return BTreeMap::new();
        }
        let live = |rule: &Rule| {
            let value = rule.value()?.to_owned();
            Some(Self::paths(rule, seen).into_iter().map(move |path| (path.clone(), Live::new(path, value.clone()))))
        };
        self.rules().iter().filter_map(live).flatten().collect()
    }
}

fn lines(text: &str) -> Vec<String> {
    let says = |line: &&str| !line.is_empty() && !line.starts_with(['#', ';']);
    text.lines().map(str::trim).filter(says).map(String::from).collect()
}

impl Resource for Tmpfiles {
    const KIND: &'static str = "tmpfiles";
    const EXAMPLE: &'static str = "\
tmpfiles:
  name: thp
  rules:
    - { path: /sys/kernel/mm/transparent_hugepage/enabled, argument: madvise }
    - { path: /sys/kernel/mm/transparent_hugepage/defrag, argument: madvise }
";
    const IN_FILES: &'static [&'static str] = &["file"];
    type State = State;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = vec![];
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if self.name.is_empty() || self.name.len() > 200 || !self.name.chars().all(plain) {
            problems.push(Problem::new(&["name"], "a name has letters, digits, `.`, `_` and `-`"));
        }
        let file = self.file();
        let in_etc = file.parent().is_some_and(|parent| parent.as_str() == TMPFILES_DIRS[0]);
        if !in_etc || !file.file_name().ends_with(".conf") {
            let elsewhere = Problem::new(&["file"], format!("{file} is not read by systemd-tmpfiles"));
            problems.push(elsewhere.help("name a file like /etc/tmpfiles.d/10-vprov-thp.conf"));
        }
        match (self.ensure, self.rules.is_empty()) {
            (Ensure::Present, true) => problems.push(Problem::new(&[], "`rules` is missing")),
            (Ensure::Absent, false) => problems.push(Problem::new(&["rules"], "a file that is `absent` has no rules")),
            _ => {}
        }
        for (at, rule) in self.rules.iter().enumerate() {
            let at = at.to_string();
            let problem = |field: &str, message: String| Problem::new(&["rules", &at, field], message);
            if !rule.path.starts_with('/') {
                problems.push(problem("path", format!("`{}` is no absolute path", rule.path)));
            } else if rule.kind.starts_with('w') && rule.argument.is_none() {
                problems.push(Problem::new(&["rules", &at], "a rule that writes needs an `argument`"));
            } else if let Err(error) = tmpfiles::render_rule(&rule.line()) {
                let field = match error.field {
                    "owner" => "user",
                    "path or argument" => "path",
                    field => field,
                };
                problems.push(problem(field, error.to_string()));
            }
        }
        problems
    }

    /// Each path of the kernel belongs to one resource, whatever file the rule stands in.
    fn claims(&self) -> Vec<Claim> {
        let claim =
            |rule: &Rule| Claim { key: rule.line().path, value: format!("{:?} in {}", rule.line(), self.file()) };
        let own = Claim { key: self.name(), value: format!("{} {:?} {:?}", self.file(), self.ensure, self.running) };
        [own].into_iter().chain(self.rules.iter().filter(|rule| rule.value().is_some()).map(claim)).collect()
    }

    fn release(&mut self, key: &str) -> bool {
        if key == self.name {
            return true;
        }
        self.rules.retain(|rule| rule.line().path != key);
        !self.rules.is_empty()
    }

    fn merge_key(&self) -> Option<String> {
        Some(self.file().to_string())
    }

    fn absorb(&mut self, other: Self) {
        for rule in other.rules {
            if !self.rules.contains(&rule) {
                self.rules.push(rule);
            }
        }
        self.running &= other.running;
        if other.ensure == Ensure::Present {
            self.ensure = Ensure::Present;
        }
    }

    fn links(&self) -> Links {
        let file = self.file();
        Links { needs: file.parent().map(Handle::Path).into_iter().collect(), provides: vec![Handle::Path(file)] }
    }

    fn reads(&self, seen: &Seen) -> Vec<Read> {
        let mut reads = own_file::reads(&self.file());
        reads.extend(own_file::neighbours_reads(&TMPFILES_DIRS, ".conf"));
        if !seen.offline {
            reads.extend(self.rules().iter().filter(|rule| rule.value().is_some()).filter_map(Self::glob));
        }
        for live in self.live(seen).values() {
            reads.push(live.read());
            reads.extend(live.rivals_reads());
        }
        reads
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        let file = own_file::text(seen, &self.file())?.map(lines);
        let mut running = BTreeMap::new();
        for (path, live) in self.live(seen) {
            running.extend(live.current(seen)?.map(|value| (path.to_string(), value)));
        }
        Ok(Some(State { file, running }))
    }

    fn desired(&self, seen: &Seen, current: Option<&State>) -> Result<Option<State>, Cannot> {
        let there = |path: &str| current.is_some_and(|current| current.running.contains_key(path));
        let live = self.live(seen).into_iter().map(|(path, live)| (path.to_string(), live.value));
        let running = live.filter(|(path, _)| there(path)).collect();
        Ok(Some(State { file: self.content()?.as_deref().map(lines), running }))
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
        let value = |state: Option<&State>, path: &str| state.and_then(|state| state.running.get(path).cloned());
        let mut steps = vec![];
        if file(from) != file(to) {
            steps.extend(own_file::steps(seen, &self.file(), self.content()?));
        }
        // The order of the rules is the order of the writes: KSM takes some values only before it runs.
        let live = self.live(seen);
        let mut done = std::collections::BTreeSet::new();
        for path in self.rules().iter().flat_map(|rule| Self::paths(rule, seen)) {
            let Some(live) = live.get(&path) else { continue };
            if value(from, path.as_str()) != value(to, path.as_str()) && done.insert(path) {
                steps.push(live.step(seen)?);
            }
        }
        Ok(steps)
    }

    fn remarks(&self, seen: &Seen) -> Vec<Remark> {
        let file = self.file();
        let content = self.content().unwrap_or_default();
        let files = own_file::neighbours(seen, &TMPFILES_DIRS, ".conf", &file, content.as_deref());
        let mut remarks = vec![];
        for rule in self.rules().iter().filter(|rule| rule.line().writes()) {
            let Ok(path) = AbsPath::new(rule.path.as_str()) else { continue };
            let Some(found) = tmpfiles::overridden(&files, &file, &path) else { continue };
            let why = if found.pattern.is_some() { "a pattern in a later file" } else { "the earlier file" };
            remarks.push(Remark::warning_with_help(
                format!("{} sets {path} to `{}` at boot: {why} wins over {file}", found.place, found.value),
                "remove that line, or choose a `file:` whose name decides",
            ));
        }
        for (path, live) in self.live(seen) {
            if matches!(seen.get(&live.read()), Answer::Absent) {
                remarks.push(Remark::warning(format!(
                    "this host has no {path}; systemd-tmpfiles leaves out such a rule in silence"
                )));
            }
            remarks.extend(live.rivals(seen));
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        os::tmpfiles::HEADER,
        resource::world::{World, wrong},
    };

    const FILE: &str = "/etc/tmpfiles.d/10-vprov-thp.conf";
    const ENABLED: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
    const ENTRY: &str =
        "tmpfiles: {name: thp, rules: [{path: /sys/kernel/mm/transparent_hugepage/enabled, argument: madvise}]}";

    fn world(file: &str, running: &str) -> World {
        let world = World::of(&[(ENABLED, running)]).directory("/etc/tmpfiles.d");
        if file.is_empty() { world } else { world.file(FILE, &format!("{HEADER}{file}\n")) }
    }

    #[test]
    fn file_and_kernel_are_brought_there_each_by_itself() {
        let line = format!("w {ENABLED} - - - - madvise");
        let (write, poke) = (format!("write {FILE}"), format!("write `madvise` to {ENABLED}"));
        world("", "[always] madvise never\n").check(ENTRY, &["create", &write, &poke]);
        world("", "[always] madvise never\n").offline().check(ENTRY, &["create", &write]);
        world(&line, "[always] madvise never\n").check(ENTRY, &["update", &poke]);
        world(&line, "always [madvise] never\n").check(ENTRY, &["converged"]);
        world("w /x - - - - y", "always [madvise] never\n").check(ENTRY, &["update", &write]);
        let absent = "tmpfiles: {name: thp, ensure: absent}";
        world(&line, "always [madvise] never\n").check(absent, &["delete", &format!("remove {FILE}")]);
        World::of(&[(FILE, &format!("{line}\n"))]).check(
            ENTRY,
            &[
                "converged",
                &format!("warning: this host has no {ENABLED}; systemd-tmpfiles leaves out such a rule in silence"),
            ],
        );
        world(&line, "[x] y\n").check(ENTRY, &[&format!("refused: {ENABLED} offers `x`, `y`, not `madvise`")]);
        let earlier = "/usr/lib/tmpfiles.d/05-x.conf";
        world(&line, "always [madvise] never\n").file(earlier, &format!("w {ENABLED} - - - - never\n")).check(
            ENTRY,
            &[
                "converged",
                &format!("warning: {earlier}:1 sets {ENABLED} to `never` at boot: the earlier file wins over {FILE}"),
            ],
        );
    }

    #[test]
    fn a_pattern_names_what_is_there_now() {
        let world = World::of(&[
            ("/sys/block/sda/queue/scheduler", "none [mq-deadline]\n"),
            ("/sys/block/sdb/queue/scheduler", "[none] mq-deadline\n"),
        ]);
        world.check(
            "tmpfiles: {name: io, rules: [{path: /sys/block/sd*/queue/scheduler, argument: mq-deadline}]}",
            &[
                "create",
                "make directory /etc/tmpfiles.d",
                "write /etc/tmpfiles.d/10-vprov-io.conf",
                "write `mq-deadline` to /sys/block/sdb/queue/scheduler",
            ],
        );
        world.check(
            "tmpfiles: {name: dir, rules: [{type: d, path: /var/x, mode: \"0711\", user: root}]}",
            &["create", "make directory /etc/tmpfiles.d", "write /etc/tmpfiles.d/10-vprov-dir.conf"],
        );
    }

    #[test]
    fn what_makes_no_sense_is_told_where_it_stands() {
        wrong(
            "tmpfiles: {name: a/b, rules: [{path: /x, argument: 1}]}",
            "1:18 a name has letters, digits, `.`, `_` and `-`\n1:11 /etc/tmpfiles.d/10-vprov-a/b.conf is not read by systemd-tmpfiles",
        );
        wrong("tmpfiles: {name: a}", "1:11 `rules` is missing");
        wrong("tmpfiles: {name: a, rules: [{path: x, argument: 1}]}", "1:36 `x` is no absolute path");
        wrong("tmpfiles: {name: a, rules: [{path: /x}]}", "1:29 a rule that writes needs an `argument`");
        wrong(
            "tmpfiles: {name: a, rules: [{path: /x, argument: 1, user: \"a b\"}]}",
            "1:59 the owner `a b` cannot stand in a tmpfiles rule",
        );
    }
}
