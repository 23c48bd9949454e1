//! A file with content, mode and owner.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Cannot, Ensure, Handle, Links, Problem, Resource, Seen,
    owner::{self, Mode, Name},
    seen::parents_reads,
};
use crate::{
    config::FileParameter,
    host::{
        bytes::Digest,
        matcher::Matcher,
        op::{Check, Command, Op, Owner, Source, Step},
        path::AbsPath,
        read::{Answer, Read},
    },
};

/// A file with content, mode and owner. Missing directories above it are made, with mode 0755 and owner root. Where a
/// symbolic link or anything else that is no file stands, nothing is changed. A file that is not readable by everybody
/// is sensitive: no report shows its content.
///
/// Removing it from the configuration leaves the file and plans list it as orphaned; `--prune` brings back what stood there before,
/// without extended attributes where the file is made again. `ensure: absent` removes it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Where.
    pub path: AbsPath,
    /// The whole content. Templates in it are evaluated.
    #[serde(default)]
    pub content: Option<String>,
    /// A file beside the YAML file, whose content is taken as it is.
    #[serde(default)]
    pub source: Option<String>,
    /// A file beside the YAML file, whose templates are evaluated.
    #[serde(default)]
    pub template: Option<String>,
    /// Mode in octal, as "0644". Unset: kept, or 0644 for a new file.
    #[serde(default)]
    pub mode: Option<Mode>,
    /// Owner, as a name or a number. Unset: kept, or root for a new file.
    #[serde(default)]
    pub owner: Option<Name>,
    /// Group, as a name or a number. Unset: kept, or root for a new file.
    #[serde(default)]
    pub group: Option<Name>,
    /// `present` or `absent`.
    #[serde(default)]
    pub ensure: Ensure,
    /// A program and its arguments that must end with 0 before the file is replaced; the argument `{}` stands for the new file.
    #[serde(default)]
    pub validate: Vec<String>,
    /// Whether no report shows the content. Unset: yes where the file is not readable by everybody.
    #[serde(default)]
    pub sensitive: Option<bool>,
}

/// What is managed of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct State {
    /// The SHA-256 of the content.
    content: Digest,
    /// The low 12 bits of the mode, in octal.
    mode: String,
    /// The owner's number.
    uid: u32,
    /// The group's number.
    gid: u32,
}

/// The name of the new content until it is installed.
const STAGED: &str = "new";

impl File {
    /// The loader puts the text of a named file in place of its name.
    fn text(&self) -> &str {
        [&self.content, &self.source, &self.template].into_iter().flatten().next().map_or("", String::as_str)
    }
}

impl Resource for File {
    const KIND: &'static str = "file";
    const EXAMPLE: &'static str = "\
file:
  path: /etc/modules-load.d/vhost.conf
  content: |
    vhost_net
  mode: \"0644\"
";
    const FILE_PARAMETERS: &'static [FileParameter] = &[
        FileParameter { parameter: "source", is_template: false },
        FileParameter { parameter: "template", is_template: true },
    ];
    const IN_FILES: &'static [&'static str] = &["content"];
    const SECRETS: &'static [&'static str] = &["content", "source", "template"];
    type State = State;

    fn name(&self) -> String {
        self.path.to_string()
    }

    fn check(&self) -> Vec<Problem> {
        let mut problems = vec![];
        let given: Vec<&str> = [("content", &self.content), ("source", &self.source), ("template", &self.template)]
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|_| name))
            .collect();
        match (self.ensure, given.as_slice()) {
            (Ensure::Present, []) => {
                let missing = Problem::new(&[], "one of `content`, `source` and `template` is missing");
                problems.push(missing.help("write `content: \"\"` for an empty file"));
            }
            (Ensure::Present, [_]) | (Ensure::Absent, []) => {}
            (Ensure::Present, [first, second, ..]) => {
                problems.push(Problem::new(&[second], format!("`{first}` and `{second}` exclude each other")));
            }
            (Ensure::Absent, [first, ..]) => {
                problems.push(Problem::new(&[first], "a file that is `absent` has no content"));
            }
        }
        if self.path.is_live() {
            let live = Problem::new(&["path"], format!("{} is a value of the kernel, not a file", self.path));
            problems.push(live.help("use `kernel_value`, or `sysctl` for /proc/sys"));
        }
        if !self.validate.is_empty() && !self.validate.iter().skip(1).any(|argument| argument == "{}") {
            let blind = Problem::new(&["validate"], "the program is not given the new file");
            problems.push(blind.help("write `{}` as one of its arguments"));
        }
        problems
    }

    fn links(&self) -> Links {
        Links {
            provides: vec![Handle::Path(self.path.clone())],
            needs: self.path.parent().map(Handle::Path).into_iter().collect(),
        }
    }

    fn reads(&self, _: &Seen) -> Vec<Read> {
        let mut reads = parents_reads(&self.path);
        reads.push(Read::entry(self.path.clone()));
        reads.extend(owner::reads(self.owner.as_ref(), self.group.as_ref()));
        reads
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        match seen.get(&Read::entry(self.path.clone())) {
            Answer::Link { target, .. } => Err(Cannot::Refused(format!(
                "{} is a symbolic link to `{target}`, which is not replaced by a file: name the target, or remove the link",
                self.path
            ))),
            Answer::File { meta, content: Some(content), .. } => Ok(Some(State {
                content: content.digest(),
                mode: format!("{:04o}", meta.mode),
                uid: meta.uid,
                gid: meta.gid,
            })),
            _ => seen.entry(&self.path).map(|_| None),
        }
    }

    fn desired(&self, seen: &Seen, current: Option<&State>) -> Result<Option<State>, Cannot> {
        if self.ensure == Ensure::Absent {
            return Ok(None);
        }
        let (uid, gid) = owner::resolve(seen, self.owner.as_ref(), self.group.as_ref())?;
        Ok(Some(State {
            content: Digest::of(self.text().as_bytes()),
            mode: match (&self.mode, current) {
                (Some(mode), _) => mode.to_string(),
                (None, Some(current)) => current.mode.clone(),
                (None, None) => "0644".into(),
            },
            uid: uid.or(current.map(|state| state.uid)).unwrap_or(0),
            gid: gid.or(current.map(|state| state.gid)).unwrap_or(0),
        }))
    }

    fn steps(&self, seen: &Seen, from: Option<&State>, to: Option<&State>) -> Result<Vec<Step>, Cannot> {
        let Some(to) = to else { return Ok(vec![seen.remove(&self.path)]) };
        let mode = u32::from_str_radix(&to.mode, 8).map_err(|error| Cannot::Refused(error.to_string()))?;
        let owner = Owner { mode, uid: to.uid, gid: to.gid };
        let announced = Matcher::File { digest: to.content, mode, uid: to.uid, gid: to.gid };
        if from.is_some_and(|from| from.content == to.content) {
            return Ok(vec![seen.guarded(&self.path, Op::Chmod { path: self.path.clone(), owner }, announced)]);
        }
        let mut steps = seen.make_parents(&self.path);
        if self.validate.is_empty() {
            steps.push(seen.write(&self.path, self.text(), owner));
            return Ok(steps);
        }
        let source = Source::Content(self.text().into());
        let check = Command::new(&self.validate).with_staged(STAGED);
        let install = Op::Install { name: STAGED.into(), path: self.path.clone(), owner, derived: false };
        steps.push(Step::new(Op::Stage { name: STAGED.into(), source }));
        steps.push(Step::new(Op::Check(Check::Succeeds(check))));
        steps.push(seen.guarded(&self.path, install, announced));
        Ok(steps)
    }

    fn is_sensitive(&self, seen: &Seen) -> bool {
        let closed = |mode: u32| mode & 0o004 == 0;
        let now = seen.get(&Read::entry(self.path.clone())).meta().map(|meta| meta.mode);
        let after = self.mode.map(|mode| mode.0);
        self.sensitive.unwrap_or_else(|| after.is_some_and(closed) || now.is_some_and(closed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::world::{World, wrong};

    #[test]
    fn files_are_created_changed_and_removed() {
        let world = World::of(&[("/etc/motd", "hello\n"), ("/etc/passwd", "qemu:x:107:36::/:/x\n")]);
        world.check("file: {path: /etc/motd, content: \"hello\\n\"}", &["converged"]);
        world.check("file: {path: /etc/motd, content: x}", &["update", "write /etc/motd"]);
        world.check(
            "file: {path: /etc/motd, content: \"hello\\n\", mode: \"0600\", owner: qemu}",
            &["update", "set /etc/motd to mode 0600, owner 107:0"],
        );
        world.check("file: {path: /etc/a/b, content: \"\"}", &["create", "make directory /etc/a", "write /etc/a/b"]);
        world.check(
            "file: {path: /etc/sudoers.d/x, content: x, validate: [visudo, -cf, \"{}\"]}",
            &[
                "create",
                "make directory /etc/sudoers.d",
                "stage the new content",
                "check by visudo -cf {}",
                "install /etc/sudoers.d/x",
            ],
        );
        world.check("file: {path: /etc/motd, ensure: absent}", &["delete", "remove /etc/motd"]);
        world.check("file: {path: /etc/none, ensure: absent}", &["converged"]);
        world.check("file: {path: /etc, content: x}", &["refused: /etc is a directory, not a file"]);
        world.check(
            "file: {path: /etc/motd, content: x, owner: nobody}",
            &["refused: there is no user `nobody` in /etc/passwd"],
        );
        let world = world.path("/etc/shadow", Answer::Denied).link("/etc/link", "x");
        world.check("file: {path: /etc/shadow, content: x}", &["unknown: /etc/shadow may not be read by this user"]);
        let Err(Cannot::Refused(why)) = world.compare("file: {path: /etc/link, content: x}").result else {
            panic!("a link is never replaced")
        };
        assert!(why.contains("symbolic link to `x`"), "{why}");
    }

    #[test]
    fn closed_files_are_sensitive() {
        let world = World::of(&[]).file_with_mode("/etc/key", "x", 0o600);
        let sensitive = |entry: &str| world.compare(entry).sensitive;
        assert!(sensitive("file: {path: /etc/key, content: y}"));
        assert!(sensitive("file: {path: /etc/new, content: y, mode: \"0640\"}"));
        assert!(!sensitive("file: {path: /etc/key, content: y, sensitive: false}"));
        assert!(!sensitive("file: {path: /etc/new, content: y}"));
    }

    #[test]
    fn what_makes_no_sense_is_told_where_it_stands() {
        wrong("file: {path: /etc/a}", "1:7 one of `content`, `source` and `template` is missing");
        wrong("file: {path: /etc/a, content: a, source: b}", "1:42 `content` and `source` exclude each other");
        wrong("file: {path: /sys/a, content: a}", "1:14 /sys/a is a value of the kernel, not a file");
        wrong("file: {path: /etc/a, content: a, validate: [true]}", "1:44 the program is not given the new file");
        wrong("file: {path: /etc/a, content: a, ensure: absent}", "1:31 a file that is `absent` has no content");
        let mode = "`rw` is no mode; write three or four octal digits in quotes, as \"0644\"";
        wrong("file: {path: /etc/a, content: a, mode: rw}", &format!("1:40 {mode}"));
    }
}
