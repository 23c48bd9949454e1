//! A symbolic link.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Cannot, Ensure, Handle, Links, Problem, Resource, Seen, seen::parents_reads};
use crate::host::{
    matcher::Matcher,
    op::{Op, Step},
    path::AbsPath,
    read::{Answer, Read},
};

/// A symbolic link. Missing directories above it are made, with mode 0755 and owner root. A file or directory that stands
/// there is never replaced.
///
/// Removing it from the configuration leaves the link and plans list it as orphaned; `--prune` brings back what stood there before.
/// `ensure: absent` removes it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Symlink {
    /// Where.
    pub path: AbsPath,
    /// What it points to, as it will be written: absolute, or relative to the link's directory.
    #[serde(default)]
    pub target: Option<String>,
    /// `present` or `absent`.
    #[serde(default)]
    pub ensure: Ensure,
}

/// What is managed of a link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// What it points to.
    target: String,
}

impl Resource for Symlink {
    const KIND: &'static str = "symlink";
    const EXAMPLE: &'static str = "symlink: { path: /etc/libvirt/images, target: /srv/images }";
    type State = State;

    fn name(&self) -> String {
        self.path.to_string()
    }

    fn check(&self) -> Vec<Problem> {
        match (self.ensure, self.target.as_deref()) {
            (Ensure::Present, None) => vec![Problem::new(&[], "`target` is missing")],
            (Ensure::Present, Some("")) => vec![Problem::new(&["target"], "a link to nothing cannot be made")],
            (Ensure::Present, Some(target)) if target.len() > 4095 || target.contains(char::is_control) => {
                vec![Problem::new(&["target"], "the target is longer than 4095 bytes or holds a control character")]
            }
            (Ensure::Absent, Some(_)) => vec![Problem::new(&["target"], "a link that is `absent` has no target")],
            _ => vec![],
        }
    }

    fn links(&self) -> Links {
        let target = self.target.as_deref().and_then(|target| AbsPath::new(target).ok());
        Links {
            provides: vec![Handle::Path(self.path.clone())],
            needs: self.path.parent().into_iter().chain(target).map(Handle::Path).collect(),
        }
    }

    fn reads(&self, _: &Seen) -> Vec<Read> {
        let mut reads = parents_reads(&self.path);
        reads.push(Read::entry(self.path.clone()));
        reads
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        match seen.get(&Read::entry(self.path.clone())) {
            Answer::Absent => Ok(None),
            Answer::Link { target, .. } => Ok(Some(State { target: target.clone() })),
            Answer::Denied => Err(Cannot::Unknown(format!("{} may not be read by this user", self.path))),
            other => Err(Cannot::Refused(format!("{} is {}, not a symbolic link", self.path, other.describe()))),
        }
    }

    fn desired(&self, _: &Seen, _: Option<&State>) -> Result<Option<State>, Cannot> {
        let wanted = self.target.clone().filter(|_| self.ensure == Ensure::Present);
        Ok(wanted.map(|target| State { target }))
    }

    fn steps(&self, seen: &Seen, _: Option<&State>, to: Option<&State>) -> Result<Vec<Step>, Cannot> {
        let Some(State { target }) = to else { return Ok(vec![seen.remove(&self.path)]) };
        let mut steps = seen.make_parents(&self.path);
        let link = Op::Link { path: self.path.clone(), target: target.clone() };
        steps.push(seen.guarded(&self.path, link, Matcher::Link { target: target.clone() }));
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use crate::resource::world::{World, wrong};

    #[test]
    fn links_are_created_changed_and_removed() {
        let world = World::of(&[("/etc/file", "")]).link("/etc/link", "a");
        world.check("symlink: {path: /etc/link, target: a}", &["converged"]);
        world.check("symlink: {path: /etc/link, target: /b}", &["update", "link /etc/link to /b"]);
        world.check("symlink: {path: /srv/x, target: a}", &["create", "make directory /srv", "link /srv/x to a"]);
        world.check("symlink: {path: /etc/link, ensure: absent}", &["delete", "remove /etc/link"]);
        world.check(
            "symlink: {path: /etc/file, target: a}",
            &["refused: /etc/file is a regular file, not a symbolic link"],
        );
        wrong("symlink: {path: /a}", "1:10 `target` is missing");
        wrong("symlink: {path: /a, target: b, ensure: absent}", "1:29 a link that is `absent` has no target");
    }
}
