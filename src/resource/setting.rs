//! One key in a file of settings, all else of the file kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::json;

use super::{
    Cannot, Claim, Declaration, Ensure, Handle, Links, Memory, Problem, Remark, Resource, Seen, memory,
    seen::parents_reads,
};
use crate::{
    host::{
        op::{Owner, Step},
        path::AbsPath,
        read::{Answer, Read},
    },
    os::setting::{self, Format},
};

/// One key in a file of settings. Comments, other keys and the file's owner and mode are kept.
///
/// The assignment that decides is changed in place; a key that is not there yet is written behind its commented default, else
/// at the end. All settings of one file are one edit. A file of `/etc/sysconfig` or `/etc/default` is taken for shell, one of
/// `/etc/libvirt` for libvirt's format, `/etc/xen/xl.conf` for xl's; for others say `format`.
///
/// Removing it from the configuration leaves the assignment and plans list it as orphaned; `--prune` brings back the value before, in
/// vprov's quotes, or removes it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// The file; it is made, with mode 0644, where there is none.
    pub file: AbsPath,
    /// The section of an ini file, without brackets.
    #[serde(default)]
    pub section: Option<String>,
    /// The key.
    pub key: String,
    /// The value: text, an integer, a boolean or, in files of libvirt and xl, a list of texts. Needed unless `ensure: absent`.
    #[serde(default)]
    pub value: Option<Value>,
    /// `shell` (`KEY="value"`), `ini`, `libvirt` or `xl`.
    #[serde(default)]
    pub format: Option<Format>,
    /// `present` or `absent`; absent removes each assignment of the key and keeps comments.
    #[serde(default)]
    pub ensure: Ensure,
    /// The other settings of the file.
    #[serde(skip)]
    others: Vec<Setting>,
}

/// A value as a person writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// An integer.
    Integer(i64),
    /// A boolean, which libvirt and xl write as 1 and 0.
    Boolean(bool),
    /// A list of texts.
    List(Vec<String>),
}

/// The values of the managed keys; `null` for a key that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct State(BTreeMap<String, Option<serde_json::Value>>);

impl Resource for Setting {
    const KIND: &'static str = "setting";
    const EXAMPLE: &'static str = "setting: { file: /etc/libvirt/qemu.conf, key: spice_listen, value: \"::1\" }";
    const IN_FILES: &'static [&'static str] = &["*"];
    const SECRETS: &'static [&'static str] = &["value"];
    const SHARED: bool = true;
    type State = State;

    fn name(&self) -> String {
        match self.others.is_empty() {
            true => format!("{}:{}", self.file, self.label()),
            false => self.file.to_string(),
        }
    }

    fn check(&self) -> Vec<Problem> {
        let Some(format) = self.format() else {
            let problem = Problem::new(&["file"], format!("the format of {} is not known by its path", self.file));
            return vec![problem.help("say `format: shell`, `ini`, `libvirt` or `xl`")];
        };
        if self.section.is_some() && format != Format::Ini {
            return vec![Problem::new(&["section"], "only an ini file has sections")];
        }
        if self.ensure == Ensure::Absent {
            let unset = setting::unset(format, b"", &self.codec_key(format)).err();
            return unset.map(|error| Problem::new(&["key"], error.to_string())).into_iter().collect();
        }
        let Some(value) = &self.value else {
            return vec![Problem::new(&[], "a setting needs a `value`").help("or say `ensure: absent`")];
        };
        let set = setting::set(format, b"", &self.codec_key(format), &value.written(format)).err();
        let problem = |error: setting::SettingError| {
            let field = if matches!(error, setting::SettingError::Key(..)) { "key" } else { "value" };
            Problem::new(&[field], error.to_string())
        };
        set.map(problem).into_iter().collect()
    }

    fn claims(&self) -> Vec<Claim> {
        let claim = |setting: &Setting| Claim {
            key: format!("{}:{}", setting.file, setting.label()),
            value: format!("{:?} {:?}", setting.ensure, setting.value),
        };
        self.all().map(claim).collect()
    }

    fn merge_key(&self) -> Option<String> {
        Some(self.file.to_string())
    }

    fn absorb(&mut self, mut other: Self) {
        let more = std::mem::take(&mut other.others);
        self.others.push(other);
        self.others.extend(more);
    }

    fn links(&self) -> Links {
        Links {
            provides: vec![Handle::Path(self.file.clone())],
            needs: self.file.parent().map(Handle::Path).into_iter().collect(),
        }
    }

    fn reads(&self, _: &Seen) -> Vec<Read> {
        let mut reads = vec![Read::entry(self.file.clone())];
        reads.extend(parents_reads(&self.file));
        reads
    }

    fn current(&self, seen: &Seen) -> Result<Option<State>, Cannot> {
        match seen.entry(&self.file)? {
            None => Ok(None),
            Some(content) => self.state(&content.0).map(Some),
        }
    }

    fn desired(&self, seen: &Seen, current: Option<&State>) -> Result<Option<State>, Cannot> {
        if current.is_none() && self.all().all(|setting| setting.ensure == Ensure::Absent) {
            return Ok(None);
        }
        self.state(&self.edited(seen)?).map(Some)
    }

    fn steps(&self, seen: &Seen, _: Option<&State>, _: Option<&State>) -> Result<Vec<Step>, Cannot> {
        let mut steps = seen.make_parents(&self.file);
        steps.push(seen.write(&self.file, self.edited(seen)?, seen.owner_or(&self.file, Owner::root(0o644))));
        Ok(steps)
    }

    fn remarks(&self, seen: &Seen) -> Vec<Remark> {
        let Ok(Some(content)) = seen.entry(&self.file) else { return vec![] };
        let void = |setting: &Setting| {
            let format = setting.format()?;
            let found = setting::get(format, &content.0, &setting.codec_key(format)).ok()??;
            let lines: Vec<String> = found.void.iter().map(ToString::to_string).collect();
            let text = format!(
                "{} assigns `{}` more than once; line {} decides, not {}",
                self.file,
                setting.label(),
                found.line,
                lines.join(", ")
            );
            (!lines.is_empty()).then(|| Remark::warning(text))
        };
        self.all().filter_map(void).collect()
    }

    fn remembers(&self, seen: &Seen, from: Option<&State>, to: Option<&State>, steps: &[Step]) -> Vec<Memory> {
        let content = seen.entry(&self.file).ok().flatten().map_or(&[][..], |content| &content.0);
        let mut memories: Vec<Memory> = self.all().filter_map(|one| one.memory(content, from, to)).collect();
        memories.extend(memory::of_steps(seen, steps, Self::SHARED));
        memories
    }

    fn things(&self, seen: &Seen) -> BTreeSet<String> {
        let mut things = super::things(&self.links(), &self.reads(seen));
        things.extend(self.claims().into_iter().map(|claim| claim.key));
        things
    }

    fn is_sensitive(&self, seen: &Seen) -> bool {
        let answer = seen.get(&Read::entry(self.file.clone()));
        matches!(answer, Answer::File { meta, .. } if meta.mode & 0o004 == 0)
    }
}

impl Setting {
    /// Returns what the ledger keeps of this one key if it changes; a value that the file computes cannot be put back.
    fn memory(&self, content: &[u8], from: Option<&State>, to: Option<&State>) -> Option<Memory> {
        let shown = |state: Option<&State>| state.and_then(|state| state.0.get(&self.label()).cloned().flatten());
        if shown(from) == shown(to) {
            return None;
        }
        let format = self.format()?;
        let found = setting::get(format, content, &self.codec_key(format)).ok()?;
        let old = match found {
            None => None,
            Some(found) => Some(match found.value? {
                setting::Value::Text(text) => json!(text),
                setting::Value::Integer(number) => json!(number),
                setting::Value::List(items) => json!(items),
            }),
        };
        let of = |value: Option<serde_json::Value>| {
            let mut params = json!({ "file": self.file, "key": self.key, "format": format });
            match value {
                Some(value) => params["value"] = value,
                None => params["ensure"] = json!("absent"),
            }
            if let Some(section) = &self.section {
                params["section"] = json!(section);
            }
            Declaration::new(Self::KIND, params)
        };
        let left = self.value.as_ref().filter(|_| self.ensure == Ensure::Present).map(Value::json);
        Some(Memory::new(format!("{}:{}", self.file, self.label()), of(left), of(old)))
    }

    fn all(&self) -> impl Iterator<Item = &Setting> {
        std::iter::once(self).chain(&self.others)
    }

    fn format(&self) -> Option<Format> {
        self.format.or_else(|| Format::of(&self.file))
    }

    /// Returns the key as people read it.
    fn label(&self) -> String {
        match &self.section {
            Some(section) => format!("[{section}] {}", self.key),
            None => self.key.clone(),
        }
    }

    /// Returns the key as the codec takes it; a dot in the key of an ini file is no section.
    fn codec_key(&self, format: Format) -> String {
        match format {
            Format::Ini => format!("[{}] {}", self.section.as_deref().unwrap_or_default(), self.key),
            _ => self.key.clone(),
        }
    }

    /// Returns what a content says of the managed keys.
    fn state(&self, content: &[u8]) -> Result<State, Cannot> {
        let mut state = BTreeMap::new();
        for setting in self.all() {
            let Some(format) = setting.format() else { continue };
            let found =
                setting::get(format, content, &setting.codec_key(format)).map_err(|error| self.refused(&error))?;
            let value = found.map(|found| match found.value {
                Some(setting::Value::Text(text)) => text.into(),
                Some(setting::Value::Integer(number)) => shown_number(format, number),
                Some(setting::Value::List(items)) => items.into(),
                None => format!("(line {}: computed)", found.line).into(),
            });
            state.insert(setting.label(), value);
        }
        Ok(State(state))
    }

    fn edited(&self, seen: &Seen) -> Result<Vec<u8>, Cannot> {
        let mut content = seen.entry(&self.file)?.map_or(vec![], |content| content.0.clone());
        let sorted: BTreeMap<String, &Setting> = self.all().map(|setting| (setting.label(), setting)).collect();
        for setting in sorted.values() {
            let Some(format) = setting.format() else { continue };
            let key = setting.codec_key(format);
            let edited = match (&setting.value, setting.ensure) {
                (Some(value), Ensure::Present) => setting::set(format, &content, &key, &value.written(format)),
                _ => setting::unset(format, &content, &key),
            };
            content = edited.map_err(|error| self.refused(&error))?;
        }
        Ok(content)
    }

    fn refused(&self, error: &setting::SettingError) -> Cannot {
        Cannot::Refused(format!("{}: {error}", self.file))
    }
}

/// Shell and ini files know only texts.
fn shown_number(format: Format, number: i64) -> serde_json::Value {
    match format {
        Format::Shell | Format::Ini => number.to_string().into(),
        Format::Libvirt | Format::Xl => number.into(),
    }
}

impl Value {
    fn json(&self) -> serde_json::Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Integer(number) => json!(number),
            Self::Boolean(yes) => json!(yes),
            Self::List(items) => json!(items),
        }
    }

    fn written(&self, format: Format) -> setting::Value {
        match self {
            Self::Text(text) => setting::Value::Text(text.clone()),
            Self::Integer(number) => setting::Value::Integer(*number),
            Self::List(items) => setting::Value::List(items.clone()),
            Self::Boolean(yes) => match format {
                Format::Libvirt | Format::Xl => setting::Value::Integer(i64::from(*yes)),
                Format::Shell | Format::Ini => setting::Value::Text(yes.to_string()),
            },
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Value;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("text, an integer, a boolean or a list of texts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
                Ok(Value::Text(text.into()))
            }
            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
                Ok(Value::Integer(number))
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
                i64::try_from(number).map(Value::Integer).map_err(|_| E::custom(format!("{number} is too large")))
            }
            fn visit_bool<E: de::Error>(self, yes: bool) -> Result<Value, E> {
                Ok(Value::Boolean(yes))
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
                let mut items = vec![];
                while let Some(item) = seq.next_element()? {
                    items.push(item);
                }
                Ok(Value::List(items))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for Value {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SettingValue".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": ["string", "integer", "boolean", "array"], "items": { "type": "string" } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::world::{World, parse};

    const QEMU: &str = "# Listen.\n#spice_listen = \"127.0.0.1\"\nmax_files = 32768\n";

    fn check(world: &World, entry: &str, fields: &[&str], content: Option<&str>) {
        let difference = world.compare(entry).result.unwrap_or_else(|error| panic!("{entry}: {error:?}"));
        let steps = difference.as_ref().map(|difference| difference.steps.clone()).unwrap_or_default();
        let found = difference.map(|difference| difference.fields).unwrap_or_default();
        let found: Vec<_> = found.iter().map(|f| format!("{}: {} -> {}", f.name, f.before, f.after)).collect();
        assert_eq!(found, fields, "{entry}");
        let mut after = world.clone();
        after.apply(&steps);
        let written =
            steps.last().and_then(|step| after.answer(&Read::entry(step.op.path()?.clone())).text().map(String::from));
        assert_eq!(written.as_deref(), content, "{entry}");
        assert_eq!(after.plan(entry), Ok((vec![], vec![])), "{entry}: the second plan");
    }

    fn refused(world: &World, entry: &str, words: &str) {
        match world.plan(entry) {
            Err(Cannot::Refused(text)) => assert!(text.contains(words), "{text}"),
            other => panic!("{entry}: {other:?}"),
        }
    }

    #[test]
    fn one_key_changes_and_all_else_stays() {
        let world = World::default().file("/etc/libvirt/qemu.conf", QEMU);
        let new = QEMU.replace("\"127.0.0.1\"\n", "\"127.0.0.1\"\nspice_listen = \"::1\"\n");
        let set = "setting: { file: /etc/libvirt/qemu.conf, key: spice_listen, value: \"::1\" }";
        check(&world, set, &["spice_listen: null -> \"::1\""], Some(&new));
        let right = "setting: { file: /etc/libvirt/qemu.conf, key: max_files, value: 32768 }";
        check(&world, right, &[], None);
        let number = "setting: { file: /etc/libvirt/qemu.conf, key: max_files, value: 1 }";
        check(&world, number, &["max_files: 32768 -> 1"], Some(&QEMU.replace("32768", "1")));
        let absent = "setting: { file: /etc/libvirt/qemu.conf, key: max_files, ensure: absent }";
        check(&world, absent, &["max_files: 32768 -> null"], Some(&QEMU.replace("max_files = 32768\n", "")));
        let list = "setting: { file: /etc/libvirt/qemu.conf, key: cgroup_controllers, value: [cpu, memory] }";
        assert!(world.plan(list).unwrap().0[0].ends_with("[\"cpu\",\"memory\"]"));
        let boolean = "setting: { file: /etc/libvirt/qemu.conf, key: vnc_tls, value: true }";
        assert_eq!(world.plan(boolean).unwrap().0, ["vnc_tls: null -> 1"]);
    }

    #[test]
    fn each_format_is_known_by_its_path_or_named() {
        let world = World::default()
            .file("/etc/sysconfig/nfs", "USE_KERNEL_NFSD_NUMBER=\"4\"\n")
            .file("/etc/xen/xl.conf", "#autoballoon=\"auto\"\n")
            .file("/etc/nfs.conf", "[nfsd]\nthreads=8\n");
        check(
            &world,
            "setting: { file: /etc/sysconfig/nfs, key: USE_KERNEL_NFSD_NUMBER, value: 16 }",
            &["USE_KERNEL_NFSD_NUMBER: \"4\" -> \"16\""],
            Some("USE_KERNEL_NFSD_NUMBER=\"16\"\n"),
        );
        check(
            &world,
            "setting: { file: /etc/xen/xl.conf, key: autoballoon, value: \"off\" }",
            &["autoballoon: null -> \"off\""],
            Some("#autoballoon=\"auto\"\nautoballoon=\"off\"\n"),
        );
        check(
            &world,
            "setting: { file: /etc/nfs.conf, section: nfsd, key: threads, value: 16, format: ini }",
            &["[nfsd] threads: \"8\" -> \"16\""],
            Some("[nfsd]\nthreads=16\n"),
        );
        check(
            &world,
            "setting: { file: /etc/nfs.conf.d/vprov.conf, section: nfsd, key: threads, value: 16, format: ini }",
            &["[nfsd] threads: null -> \"16\""],
            Some("[nfsd]\nthreads=16\n"),
        );
        check(&world, "setting: { file: /etc/default/none, key: A, ensure: absent }", &[], None);
    }

    #[test]
    fn settings_of_one_file_are_one_edit() {
        let mut one = parse("setting: { file: /etc/default/x, key: B, value: b }").unwrap();
        one.absorb(parse("setting: { file: /etc/default/x, key: A, value: a }").unwrap());
        assert_eq!((one.address().name.as_str(), one.claims().len()), ("/etc/default/x", 2));
        let mut world = World::default();
        let observed = world.observe(&*one, &[]);
        let seen = Seen { observed: &observed, facts: &world.facts, offline: false };
        world.apply(&one.compare(&seen).result.unwrap().unwrap().steps);
        assert_eq!(world.answer(&Read::entry(AbsPath::known("/etc/default/x"))).text(), Some("A=\"a\"\nB=\"b\"\n"));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (entry, words) in [
            ("setting: { file: /etc/foo.conf, key: a, value: b }", "not known by its path"),
            ("setting: { file: /etc/default/a, key: a }", "needs a `value`"),
            ("setting: { file: /etc/default/a, key: \"a b\", value: b }", "no key"),
            ("setting: { file: /etc/default/a, key: a, section: s, value: b }", "only an ini file"),
            ("setting: { file: /etc/default/a, key: a, value: \"x\\ny\" }", "control character"),
            ("setting: { file: /etc/default/a, key: a, value: 1.5 }", "text, an integer"),
            ("setting: { file: /etc/default/a, key: a, value: [x] }", "list"),
        ] {
            let error = parse(entry).err().unwrap_or_default();
            assert!(error.contains(words), "{entry}: {error}");
        }
        let entry = "setting: { file: /etc/default/a, key: A, value: b }";
        refused(&World::default().file("/etc/default/a", "A=\"open\n"), entry, "line 1");
        refused(&World::default().link("/etc/default/a", "b"), entry, "symbolic link");
        let denied = World::default().path("/etc/default/a", Answer::Denied).plan(entry);
        assert!(matches!(denied, Err(Cannot::Unknown(_))));
    }

    #[test]
    fn owner_and_mode_stay_and_tell_what_is_secret() {
        let world = World::default().file_with_mode("/etc/libvirt/qemu.conf", QEMU, 0o600);
        let entry = "setting: { file: /etc/libvirt/qemu.conf, key: max_files, value: 1 }";
        let comparison = world.compare(entry);
        assert!(comparison.sensitive);
        let steps = comparison.result.unwrap().unwrap().steps;
        assert!(matches!(steps[0].op, crate::host::op::Op::Write { owner: Owner { mode: 0o600, .. }, .. }));
    }
}
