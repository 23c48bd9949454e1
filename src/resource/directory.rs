//! A directory, with mode and owner.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cannot, Handle, Links, Resource, Seen,
    owner::{self, Mode, Name},
    seen::parents_reads,
};
use crate::host::{
    op::{Owner, Step},
    path::AbsPath,
    read::{Answer, Read, Want},
};

/// A directory. Missing directories above it are made too, with mode 0755 and owner root.
///
/// Removing it from the configuration leaves the directory and plans list it as orphaned; `--prune` brings back owner and mode, or
/// removes it if it was not there before and is empty.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Where.
    pub path: AbsPath,
    /// Mode in octal, as "0755". Unset: kept, or 0755 for a new directory.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Owner, as a name or a number. Unset: kept, or root for a new directory.
    #[serde(default)]
    pub owner: Option<Name>,
    /// Group, as a name or a number. Unset: kept, or root for a new directory.
    #[serde(default)]
    pub group: Option<Name>,
    /// `present` or `absent`; a directory that is not empty is never removed.
    #[serde(default)]
    pub ensure: super::Ensure,
}

impl Directory {
    /// Asks for what stands at the path itself; with the names in it where it shall go.
    fn itself(&self) -> Read {
        let want = if self.ensure == super::Ensure::Absent { Want::Content } else { Want::Meta };
        Read::Path { path: self.path.clone(), follow: false, want }
    }
}

/// What is managed of a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// The low 12 bits of the mode, in octal.
    mode: String,
    /// The owner's number.
    uid: u32,
    /// The group's number.
    gid: u32,
}

impl Resource for Directory {
    const KIND: &'static str = "directory";
    const EXAMPLE: &'static str = "directory: { path: /srv/images, mode: \"0711\", owner: root }";
    type State = State;

    fn name(&self) -> String {
        self.path.to_string()
    }

    fn links(&self) -> Links {
        Links {
            provides: vec![Handle::Path(self.path.clone())],
            needs: self.path.parent().map(Handle::Path).into_iter().collect(),
        }
    }

    fn reads(&self, _: &Seen) -> Vec<Read> {
        let mut reads = parents_reads(&self.path);
        reads.push(Read::exists(self.path.clone()));
        reads.push(self.itself());
        reads.extend(owner::reads(self.owner.as_ref(), self.group.as_ref()));
        reads
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        match seen.get(&Read::exists(self.path.clone())) {
            Answer::Absent => Ok(None),
            Answer::Directory { meta, .. } => {
                Ok(Some(State { mode: format!("{:04o}", meta.mode), uid: meta.uid, gid: meta.gid }))
            }
            Answer::Denied => Err(Cannot::Unknown(format!("{} may not be read by this user", self.path))),
            other => Err(Cannot::Refused(format!("{} is {}, not a directory", self.path, other.describe()))),
        }
    }

    fn desired(&self, seen: &Seen, current: Option<&State>) -> Result<Option<State>, Cannot> {
        if self.ensure == super::Ensure::Absent {
            return Ok(None);
        }
        let (uid, gid) = owner::resolve(seen, self.owner.as_ref(), self.group.as_ref())?;
        Ok(Some(State {
            mode: match (&self.mode, current) {
                (Some(mode), _) => mode.to_string(),
                (None, Some(current)) => current.mode.clone(),
                (None, None) => "0755".into(),
            },
            uid: uid.or(current.map(|state| state.uid)).unwrap_or(0),
            gid: gid.or(current.map(|state| state.gid)).unwrap_or(0),
        }))
    }

    fn steps(&self, seen: &Seen, _: Option<&State>, to: Option<&State>) -> Result<Vec<Step>, Cannot> {
        match seen.get(&self.itself()) {
            Answer::Link { target, .. } => {
                let text =
                    format!("{} is a symbolic link to `{target}`, which is not changed as a directory", self.path);
                return Err(Cannot::Refused(format!("{text}: name the target, or remove the link")));
            }
            Answer::Directory { names: Some(names), .. } if to.is_none() && !names.is_empty() => {
                let text =
                    format!("{} is not empty (`{}`), and only an empty directory is removed", self.path, names[0]);
                return Err(Cannot::Refused(text));
            }
            _ => {}
        }
        let Some(to) = to else { return Ok(vec![seen.remove(&self.path)]) };
        let mode = u32::from_str_radix(&to.mode, 8).map_err(|error| Cannot::Refused(error.to_string()))?;
        let mut steps = seen.make_parents(&self.path);
        steps.push(seen.directory(&self.path, Owner { mode, uid: to.uid, gid: to.gid }));
        Ok(steps)
    }
}

#[cfg(test)]
mod tests {
    use crate::{host::read::Meta, resource::world::World};

    #[test]
    fn directories_are_made_changed_and_removed() {
        let world = World::of(&[("/srv/full/file", "")]).directory("/srv/empty").link("/srv/link", "empty");
        world.check("directory: {path: /a/b, mode: \"0700\"}", &["create", "make directory /a", "make directory /a/b"]);
        world.check("directory: {path: /srv/empty}", &["converged"]);
        world.check("directory: {path: /srv/empty, mode: \"0700\"}", &["update", "make directory /srv/empty"]);
        world.check("directory: {path: /srv/empty, ensure: absent}", &["delete", "remove /srv/empty"]);
        world.check("directory: {path: /srv/none, ensure: absent}", &["converged"]);
        world.check(
            "directory: {path: /srv/full/file}",
            &["refused: /srv/full/file is a regular file, not a directory"],
        );
        let meta = Meta { mode: 0o755, uid: 0, gid: 0, mtime: 1 };
        let names = Some(vec!["file".to_owned()]);
        let full = world.path("/srv/full", crate::host::read::Answer::Directory { meta, names });
        full.check(
            "directory: {path: /srv/full, ensure: absent}",
            &["refused: /srv/full is not empty (`file`), and only an empty directory is removed"],
        );
    }
}
