//! A program that is run where it is needed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cannot, Claim, Disruption, Handle, Links, Problem, Resource, Seen, state::Action};
use crate::host::{
    matcher::{Expectation, Matcher},
    op::{self, Op, Step, Undo},
    path::AbsPath,
    probe::Probe,
    read::{Answer, Read},
};

/// A program that is run unless `creates` exists or `unless` ends with 0. No shell is involved. What the program does is not
/// known to vprov: a plan shows only that it will run, and a rollback needs `undo`. Below `--root` it does not run.
///
/// Removing it from the configuration changes nothing, and nothing is listed as orphaned: what the program did stays.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// The program and its arguments.
    pub argv: Vec<String>,
    /// The path that the program makes; where it exists, the program is not run.
    #[serde(default)]
    pub creates: Option<AbsPath>,
    /// A program and its arguments that end with 0 where nothing is to be done. It runs while planning, where nothing can be written.
    #[serde(default)]
    pub unless: Vec<String>,
    /// The program and its arguments that take it back. Without it a rollback leaves what was done.
    #[serde(default)]
    pub undo: Vec<String>,
    /// What the program reads on its standard input: the place for a secret, as every user of a host may read command lines.
    #[serde(default)]
    pub stdin: Option<String>,
    /// After how many seconds the program is ended.
    #[serde(default = "two_minutes")]
    pub timeout: u32,
    /// What the program disturbs: `nothing`, `service`, `guests`.
    #[serde(default)]
    pub disturbs: Disruption,
}

fn two_minutes() -> u32 {
    120
}

/// What is known of a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// Whether what it is for is done.
    done: bool,
}

impl Command {
    fn unless(&self) -> Option<Read> {
        (!self.unless.is_empty()).then(|| Read::Probe(Probe::User { argv: self.unless.clone() }))
    }

    fn creates(&self) -> Option<Read> {
        self.creates.clone().map(Read::exists)
    }

    fn command(&self, argv: &[String]) -> op::Command {
        op::Command::new(argv).timeout(self.timeout)
    }
}

impl Resource for Command {
    const KIND: &'static str = "command";
    const EXAMPLE: &'static str = "\
command:
  argv: [virsh, net-autostart, default]
  creates: /etc/libvirt/qemu/networks/autostart/default.xml
  undo: [virsh, net-autostart, default, --disable]
";
    const OPAQUE: bool = true;
    const SECRETS: &'static [&'static str] = &["stdin"];
    type State = State;

    fn name(&self) -> String {
        self.argv.join(" ")
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = vec![];
        for (name, argv) in [("argv", &self.argv), ("unless", &self.unless), ("undo", &self.undo)] {
            if argv.first().is_some_and(String::is_empty) || (name == "argv" && argv.is_empty()) {
                problems.push(Problem::new(&[name], "the program is missing"));
            }
            if argv.iter().any(|word| word.contains('\0')) {
                problems.push(Problem::new(&[name], "an argument holds a NUL character"));
            }
        }
        if self.creates.is_none() && self.unless.is_empty() {
            let always = Problem::new(&[], "one of `creates` and `unless` is missing");
            problems.push(always.help("without it the program would run each time, and no plan would ever be empty"));
        }
        if !(1..=86_400).contains(&self.timeout) {
            problems.push(Problem::new(&["timeout"], "a timeout is 1 to 86400 seconds"));
        }
        problems
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim { key: self.name(), value: format!("{self:?}") }]
    }

    fn links(&self) -> Links {
        Links {
            provides: self.creates.clone().map(Handle::Path).into_iter().collect(),
            needs: self.creates.as_ref().and_then(AbsPath::parent).map(Handle::Path).into_iter().collect(),
        }
    }

    fn reads(&self, seen: &Seen) -> Vec<Read> {
        let unless = self.unless().filter(|_| !seen.offline);
        self.creates().into_iter().chain(unless).collect()
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        if let Some(creates) = self.creates() {
            match seen.get(&creates) {
                Answer::Absent => {}
                Answer::Denied => {
                    return Err(Cannot::Unknown("whether `creates` exists may not be known by this user".into()));
                }
                Answer::Failed(error) => return Err(Cannot::Refused(format!("`creates` cannot be read: {error}"))),
                _ => return Ok(Some(State { done: true })),
            }
        }
        if seen.offline {
            return Ok(Some(State { done: true }));
        }
        let Some(unless) = self.unless() else { return Ok(Some(State { done: false })) };
        match seen.get(&unless) {
            Answer::Output(output) => Ok(Some(State { done: output.status == 0 })),
            // What it asks with may come with an earlier resource.
            Answer::Absent => Ok(Some(State { done: false })),
            other => Err(Cannot::Unknown(format!("`{}` could not be run: {}", self.unless.join(" "), words(other)))),
        }
    }

    fn desired(&self, _: &Seen, _: Option<&State>) -> Result<Option<State>, Cannot> {
        Ok(Some(State { done: true }))
    }

    fn action(&self, _: Option<&State>, _: Option<&State>) -> Option<Action> {
        Some(Action::Run)
    }

    fn steps(&self, _: &Seen, _: Option<&State>, _: Option<&State>) -> Result<Vec<Step>, Cannot> {
        let undo = if self.undo.is_empty() { Undo::Irreversible } else { Undo::Run(self.command(&self.undo)) };
        let stdin = self.stdin.as_deref().map(Into::into);
        let command = op::Command { stdin, ..self.command(&self.argv) };
        let step = Step::new(Op::Run { command, produces: vec![], undo });
        Ok(vec![match self.creates() {
            Some(creates) => step
                .guard(Expectation::new(creates.clone(), Matcher::Absent))
                .after(Expectation::new(creates, Matcher::Present)),
            None => step,
        }])
    }

    fn disturbs(&self, _: Option<&State>, _: Option<&State>) -> Disruption {
        self.disturbs
    }
}

/// Returns why a program did not answer.
pub(super) fn words(answer: &Answer) -> String {
    match answer {
        Answer::Failed(error) => error.clone(),
        Answer::Denied => "permission denied".into(),
        other => other.describe(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::world::{World, wrong};

    #[test]
    fn a_program_runs_only_where_it_is_needed() {
        let creates = "command: {argv: [touch, /a], creates: /a}";
        World::of(&[]).check(creates, &["run", "run touch /a"]);
        World::of(&[("/a", "")]).check(creates, &["converged"]);
        World::of(&[]).offline().check(creates, &["converged"]);
        let unless = "command: {argv: [a, b], unless: [c, d]}";
        let probe = Probe::User { argv: vec!["c".into(), "d".into()] };
        World::of(&[]).check(unless, &["run", "run a b"]);
        World::of(&[]).program(&probe, 1, "").check(unless, &["run", "run a b"]);
        World::of(&[]).program(&probe, 0, "").check(unless, &["converged"]);
        let mut world = World::of(&[]);
        world.programs.insert(probe.argv(), Answer::Failed("no".into()));
        world.check(unless, &["unknown: `c d` could not be run: no"]);
        let steps = |entry: &str| World::of(&[]).compare(entry).result.unwrap().unwrap().steps;
        assert!(!steps(creates)[0].op.is_reversible());
        assert!(steps("command: {argv: [a], creates: /a, undo: [rm, /a]}")[0].op.is_reversible());
        wrong("command: {argv: [a]}", "1:10 one of `creates` and `unless` is missing");
        wrong("command: {argv: [], creates: /a}", "1:17 the program is missing");
        wrong("command: {argv: [a], creates: /a, timeout: 0}", "1:44 a timeout is 1 to 86400 seconds");
    }
}
