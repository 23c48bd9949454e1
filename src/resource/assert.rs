//! A condition without which nothing is done on a host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cannot, Claim, Problem, Resource, Seen, command::words};
use crate::host::{
    op::Step,
    probe::Probe,
    read::{Answer, Read},
};

/// A condition that is checked before anything is done: where it does not hold, the host is left untouched. It is either
/// an expression, or a program that ends with 0 and runs while planning, where nothing can be written. Removing it from the
/// configuration changes nothing.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Assert {
    /// The condition: `true`, `false`, or an expression such as `"{{ facts.virt.kvm }}"`.
    #[serde(default)]
    pub that: Option<bool>,
    /// A program and its arguments.
    #[serde(default)]
    pub command: Vec<String>,
    /// What is said where the condition does not hold.
    pub message: String,
}

/// An assertion manages nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {}

impl Assert {
    fn probe(&self) -> Option<Read> {
        (!self.command.is_empty()).then(|| Read::Probe(Probe::User { argv: self.command.clone() }))
    }
}

/// How many characters of the message an address shows.
const NAME_LENGTH: usize = 48;

impl Resource for Assert {
    const KIND: &'static str = "assert";
    const EXAMPLE: &'static str = "assert: { that: true, message: this host cannot run guests }";
    const PREFLIGHT: bool = true;
    type State = State;

    fn name(&self) -> String {
        // The whole message stands below the address where the condition does not hold.
        match self.message.char_indices().nth(NAME_LENGTH) {
            Some((cut, _)) => format!("{}…", self.message[..cut].trim_end()),
            None => self.message.clone(),
        }
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim { key: self.message.clone(), value: format!("{self:?}") }]
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = vec![];
        match (self.that, self.command.is_empty()) {
            (None, true) => problems.push(Problem::new(&[], "one of `that` and `command` is missing")),
            (Some(_), false) => problems.push(Problem::new(&["command"], "`that` and `command` exclude each other")),
            _ => {}
        }
        if self.command.first().is_some_and(String::is_empty) {
            problems.push(Problem::new(&["command"], "the program is missing"));
        }
        if self.message.trim().is_empty() {
            problems.push(Problem::new(&["message"], "the message is empty"));
        }
        problems
    }

    fn reads(&self, seen: &Seen) -> Vec<Read> {
        self.probe().into_iter().filter(|_| !seen.offline).collect()
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        let refused = |detail: &str| Err(Cannot::Refused(format!("{}{detail}", self.message)));
        let Some(probe) = self.probe() else {
            return if self.that == Some(true) { Ok(None) } else { refused("") };
        };
        let command = self.command.join(" ");
        if seen.offline {
            return Err(Cannot::Unsupported(format!("`{command}` does not run below a root")));
        }
        match seen.get(&probe) {
            Answer::Output(output) if output.status == 0 => Ok(None),
            Answer::Output(output) => refused(&format!(" (`{command}` ended with {})", output.status)),
            Answer::Absent => refused(&format!(" (there is no program `{}`)", self.command[0])),
            other => Err(Cannot::Unknown(format!("`{command}` could not be run: {}", words(other)))),
        }
    }

    fn desired(&self, _: &Seen, _: Option<&State>) -> Result<Option<State>, Cannot> {
        Ok(None)
    }

    fn steps(&self, _: &Seen, _: Option<&State>, _: Option<&State>) -> Result<Vec<Step>, Cannot> {
        Ok(vec![])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::world::{World, parse, wrong};

    #[test]
    fn what_does_not_hold_refuses_the_host() {
        let world = World::of(&[]);
        world.check("assert: {that: true, message: m}", &["converged"]);
        world.check("assert: {that: false, message: m}", &["refused: m"]);
        let entry = "assert: {command: [a, b], message: m}";
        let probe = Probe::User { argv: vec!["a".into(), "b".into()] };
        world.check(entry, &["refused: m (there is no program `a`)"]);
        world.clone().program(&probe, 0, "").check(entry, &["converged"]);
        world.clone().program(&probe, 2, "").check(entry, &["refused: m (`a b` ended with 2)"]);
        world.offline().check(entry, &["unsupported: `a b` does not run below a root"]);
        assert!(parse(entry).unwrap().is_preflight());
        wrong("assert: {message: m}", "1:9 one of `that` and `command` is missing");
        wrong("assert: {that: maybe, message: m}", "1:16 expected a boolean, found the string `maybe`");
        wrong("assert: {that: true, command: [a], message: m}", "1:31 `that` and `command` exclude each other");
    }
}
