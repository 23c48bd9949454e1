//! A file of udev rules.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cannot, Ensure, Handle, Links, Problem, Resource, Seen, own_file};
use crate::{
    host::{
        op::{Command, Op, Step, Undo},
        path::AbsPath,
        read::Read,
    },
    os::udev,
};

/// A file of udev rules, `/etc/udev/rules.d/90-vprov-NAME.rules`, which belongs to vprov alone. udev reads its rules again
/// when the file changes; devices that are there already see them with their next event.
///
/// Removing it from the configuration leaves the file and plans list it as orphaned; `--prune` brings back what stood there before.
/// `ensure: absent` removes it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UdevRule {
    /// A name for the file.
    pub name: String,
    /// The rules, one line each (udev(7)).
    #[serde(default)]
    pub rules: Vec<String>,
    /// `present` or `absent`.
    #[serde(default)]
    pub ensure: Ensure,
}

/// What is managed of a file of rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// Its lines.
    rules: Vec<String>,
}

/// The socket on which udev takes commands while it runs.
const CONTROL: &str = "/run/udev/control";

impl UdevRule {
    fn file(&self) -> AbsPath {
        let rules = AbsPath::known("/etc/udev/rules.d");
        rules.join(&format!("90-vprov-{}.rules", self.name)).unwrap_or(rules)
    }

    fn content(&self) -> Result<String, udev::UdevError> {
        udev::render(&self.rules)
    }
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(String::from).filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#')).collect()
}

impl Resource for UdevRule {
    const KIND: &'static str = "udev_rule";
    const EXAMPLE: &'static str = "\
udev_rule:
  name: nested
  rules:
    - 'KERNEL==\"kvm\", GROUP=\"kvm\", MODE=\"0660\"'
";
    const IN_FILES: &'static [&'static str] = &["rules"];
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
        match (self.ensure, self.rules.is_empty()) {
            (Ensure::Present, true) => problems.push(Problem::new(&[], "`rules` is missing")),
            (Ensure::Absent, false) => problems.push(Problem::new(&["rules"], "a file that is `absent` has no rules")),
            _ => {}
        }
        if let Err(error) = self.content() {
            // The first line of the file is its header.
            let at = match &error {
                udev::UdevError::Syntax { line, .. } => line.saturating_sub(2),
                udev::UdevError::Value(_) => 0,
            };
            let message = match error {
                udev::UdevError::Syntax { why, .. } => why,
                value @ udev::UdevError::Value(_) => value.to_string(),
            };
            problems.push(Problem::new(&["rules", &at.to_string()], message));
        }
        problems
    }

    fn links(&self) -> Links {
        let file = self.file();
        Links { needs: file.parent().map(Handle::Path).into_iter().collect(), provides: vec![Handle::Path(file)] }
    }

    fn reads(&self, _: &Seen) -> Vec<Read> {
        let mut reads = own_file::reads(&self.file());
        reads.push(Read::exists(AbsPath::known(CONTROL)));
        reads
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        Ok(own_file::text(seen, &self.file())?.map(|text| State { rules: lines(text) }))
    }

    fn desired(&self, _: &Seen, _: Option<&State>) -> Result<Option<State>, Cannot> {
        if self.ensure == Ensure::Absent {
            return Ok(None);
        }
        let content = self.content().map_err(|error| Cannot::Refused(error.to_string()))?;
        Ok(Some(State { rules: lines(&content) }))
    }

    fn steps(&self, seen: &Seen, _: Option<&State>, to: Option<&State>) -> Result<Vec<Step>, Cannot> {
        let content = self.content().map_err(|error| Cannot::Refused(error.to_string()))?;
        let mut steps = own_file::steps(seen, &self.file(), to.is_some().then_some(content));
        let runs = seen.get(&Read::exists(AbsPath::known(CONTROL))).meta().is_some();
        if runs && !seen.offline {
            let reload = Command::new(udev::reload());
            steps.push(Step::new(Op::Run { command: reload.clone(), produces: vec![], undo: Undo::Run(reload) }));
        }
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use crate::resource::world::{World, wrong};

    #[test]
    fn rules_are_written_and_read_again() {
        let file = "/etc/udev/rules.d/90-vprov-x.rules";
        let entry = "udev_rule: {name: x, rules: ['KERNEL==\"kvm\", MODE=\"0660\"']}";
        let world = World::of(&[(file, "# c\nKERNEL==\"kvm\", MODE=\"0660\"\n")]).file("/run/udev/control", "");
        world.check(entry, &["converged"]);
        let absent = "udev_rule: {name: x, ensure: absent}";
        let reload = "run udevadm control --reload";
        world.check(absent, &["delete", &format!("remove {file}"), reload]);
        world.clone().file(file, "KERNEL==\"x\"\n").check(entry, &["update", &format!("write {file}"), reload]);
        World::of(&[]).directory("/etc/udev/rules.d").check(entry, &["create", &format!("write {file}")]);
        world
            .link(file, "/dev/null")
            .check(entry, &[&format!("refused: {file} is a symbolic link to `/dev/null`, not a file")]);
        wrong("udev_rule: {name: x}", "1:12 `rules` is missing");
        wrong("udev_rule: {name: x y, ensure: absent}", "1:19 a name has letters, digits, `.`, `_` and `-`");
        wrong("udev_rule: {name: x, rules: [a, 'KERNL==\"x\"']}", "1:30 `a` is no key");
    }
}
