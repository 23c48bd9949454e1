//! Secrets: values that the user's own `sops` or `age` decrypts or that stand in the environment of vprov.
//!
//! `{ secret: { sops: FILE, key: A.B } }`, `{ secret: { age: FILE } }` and `{ secret: { env: NAME } }` stand wherever an expression
//! may. A file is decrypted when its first value is needed, once for all hosts, on this machine alone.
#![expect(clippy::disallowed_methods, reason = "the user's secrets are had here and nowhere else")]

use std::{
    collections::HashMap,
    ffi::OsString,
    fmt,
    io::{self, Read, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, OnceLock, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::Value as Json;

use super::{
    de, expr,
    load::Files,
    node::{Key, Map, Node, Taint, Value},
};
use crate::diag::{Diagnostic, Diagnostics, SourceMap, Span, did_you_mean};

/// How long a program may take to decrypt a file: somebody may have to touch a key or type a passphrase.
const PATIENCE: Duration = Duration::from_secs(120);

/// The greatest size of what a program may print, in bytes.
const MAX_OUTPUT: u64 = 16 << 20;

/// How much of what a program complains is kept, in bytes.
const MAX_COMPLAINT: u64 = 8 << 10;

/// Where a secret comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Source {
    /// A file of SOPS, and the way to a value in it.
    Sops { file: String, key: Option<String> },
    /// A file of age; its whole text.
    Age { file: String, identity: Option<String> },
    /// A variable of the environment.
    Env { name: String },
}

/// A secret as it is written, with its place.
#[derive(Clone, Debug)]
pub struct Secret {
    source: Source,
    span: Span,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    sops: Option<String>,
    age: Option<String>,
    env: Option<String>,
    key: Option<String>,
    identity: Option<String>,
}

impl Secret {
    /// Tells whether a value is one: a map with `secret` alone, which is a map again.
    #[must_use]
    pub fn is_one(node: &Node) -> bool {
        Self::inner(node).is_some()
    }

    fn inner(node: &Node) -> Option<&Node> {
        match node.as_map()?.0.as_slice() {
            [(key, inner)] if key.text == "secret" && inner.as_map().is_some() => Some(inner),
            _ => None,
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// What is wrong with it; `None` where the value is none.
    pub fn read(node: &Node) -> Option<Result<Self, Diagnostics>> {
        let inner = Self::inner(node)?;
        Some(de::parse::<Written>(inner).and_then(|written| Self::of(written, inner, node.span).map_err(Into::into)))
    }

    fn of(written: Written, inner: &Node, span: Span) -> Result<Self, Diagnostic> {
        let at = |key: &str| inner.as_map().and_then(|map| map.entry(key)).map_or(inner.span, |(key, _)| key.span);
        for name in ["sops", "age", "env", "key", "identity"] {
            if let Some(node) = inner.get(name).filter(|node| node.as_str().is_some_and(expr::is_template)) {
                return Err(Diagnostic::error(format!("`{name}` of a secret takes no expression")).at(node.span));
            }
        }
        let only = |name: &str, of: &str| Diagnostic::error(format!("`{name}` is for `{of}`")).at(at(name));
        if written.sops.is_none() && written.key.is_some() {
            return Err(only("key", "sops"));
        }
        if written.age.is_none() && written.identity.is_some() {
            return Err(only("identity", "age"));
        }
        let source = match (written.sops, written.age, written.env) {
            (Some(file), None, None) => Source::Sops { file, key: written.key },
            (None, Some(file), None) => Source::Age { file, identity: written.identity },
            (None, None, Some(name)) => {
                let is_name = !name.is_empty() && !name.contains(['=', '\0']);
                if !is_name {
                    return Err(Diagnostic::error(format!("`{name}` is no name of a variable")).at(at("env")));
                }
                Source::Env { name }
            }
            _ => {
                return Err(Diagnostic::error("a secret has one of `sops`, `age` and `env`")
                    .at(inner.span)
                    .help("as in `{ secret: { age: password.age } }`"));
            }
        };
        Ok(Self { source, span })
    }

    /// Returns the place.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }
}

/// How a file is decrypted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Opening {
    /// By `sops -d`; what has keys is asked for as JSON.
    Sops { is_document: bool },
    /// By `age -d`, with this identity.
    Age { identity: Option<PathBuf> },
}

/// The result of decrypting one file, or why it could not be, in words; made by whoever needs it first.
type Opened = Arc<OnceLock<Result<Node, String>>>;

/// The secrets of a project, each file decrypted at most once.
pub(super) struct Secrets {
    files: Arc<Files>,
    sources: Arc<SourceMap>,
    opened: Mutex<HashMap<(PathBuf, Opening), Opened>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

impl Secrets {
    pub(super) fn new(files: Arc<Files>, sources: Arc<SourceMap>) -> Self {
        Self { files, sources, opened: Mutex::default() }
    }

    /// Looks whether the file of a secret is there; nothing is decrypted.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn check(&self, secret: &Secret) -> Result<(), Diagnostic> {
        match &secret.source {
            Source::Sops { file, .. } | Source::Age { file, .. } => {
                self.files.file(file, secret.span, &self.sources).map(|_| ())
            }
            Source::Env { .. } => Ok(()),
        }
    }

    /// Returns the value, marked as sensitive, at the place of the secret.
    ///
    /// # Errors
    /// Why it cannot be had: the words of the program that decrypts, never a part of the secret.
    pub(super) fn value(&self, secret: &Secret) -> Result<Node, Diagnostic> {
        let wrong = |words: String| Diagnostic::error(words).at(secret.span);
        let mut node = match &secret.source {
            Source::Env { name } => match std::env::var_os(name).map(OsString::into_string) {
                Some(Ok(text)) => Node::new(Value::Str(text), secret.span),
                Some(Err(_)) => return Err(wrong(format!("the environment variable `{name}` is not UTF-8"))),
                None => return Err(wrong(format!("the environment variable `{name}` is not set"))),
            },
            Source::Age { file, identity } => {
                let identity = match identity {
                    Some(identity) => Some(self.files.path(identity, secret.span, &self.sources)?),
                    None => usual_identity(),
                };
                self.open(file, Opening::Age { identity }, secret.span)?
            }
            Source::Sops { file, key } => {
                let extension = Path::new(file).extension().and_then(|extension| extension.to_str());
                let is_document = matches!(extension, Some("yaml" | "yml" | "json" | "env" | "ini"));
                let whole = self.open(file, Opening::Sops { is_document }, secret.span)?;
                match key {
                    Some(_) if !is_document => {
                        return Err(wrong(format!("`{file}` is no YAML, JSON, env or ini file, so it has no keys")));
                    }
                    Some(key) => find(&whole, key, file).map_err(wrong)?,
                    None => whole,
                }
            }
        };
        node.mark(Taint { facts: false, sensitive: true });
        stand(&mut node, secret.span);
        Ok(node)
    }

    fn open(&self, file: &str, opening: Opening, span: Span) -> Result<Node, Diagnostic> {
        let (path, bytes) = self.files.file(file, span, &self.sources)?;
        let opened = {
            let mut all = self.opened.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(all.entry((path.clone(), opening.clone())).or_default())
        };
        let result = opened.get_or_init(|| decrypt(&path, &bytes.0, &opening, span));
        result
            .clone()
            .map_err(|words| Diagnostic::error(format!("cannot decrypt `{}`: {words}", path.display())).at(span))
    }
}

/// Puts a value and everything in it at a place.
fn stand(node: &mut Node, span: Span) {
    node.span = span;
    match &mut node.value {
        Value::Seq(list) => list.iter_mut().for_each(|node| stand(node, span)),
        Value::Map(map) => map.0.iter_mut().for_each(|(_, node)| stand(node, span)),
        _ => {}
    }
}

/// Returns the identity that SOPS would use too, so that one file of keys does for both; `age` asks for a passphrase without.
fn usual_identity() -> Option<PathBuf> {
    if let Some(file) = std::env::var_os("SOPS_AGE_KEY_FILE").filter(|file| !file.is_empty()) {
        return Some(file.into());
    }
    let config = std::env::var_os("XDG_CONFIG_HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let config = config.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".config")))?;
    Some(config.join("sops/age/keys.txt")).filter(|file| file.is_file())
}

/// Finds a value by a way of keys joined by dots. SOPS leaves keys in the clear, so they may be named.
fn find(whole: &Node, key: &str, file: &str) -> Result<Node, String> {
    let mut node = whole;
    let mut way = String::new();
    for step in key.split('.') {
        let next = node.at(&[step]);
        let Some(next) = next else {
            let known: Vec<&str> = node.as_map().into_iter().flatten().map(|(key, _)| key.text.as_str()).collect();
            let meant = did_you_mean(step, known).map(|meant| format!("; did you mean `{way}{meant}`?"));
            return Err(format!("`{file}` has no `{way}{step}`{}", meant.unwrap_or_default()));
        };
        node = next;
        way.push_str(step);
        way.push('.');
    }
    Ok(node.clone())
}

fn decrypt(path: &Path, bytes: &[u8], opening: &Opening, span: Span) -> Result<Node, String> {
    match opening {
        Opening::Age { identity } => {
            let mut arguments: Vec<OsString> = vec!["-d".into()];
            if let Some(identity) = identity {
                arguments.extend(["-i".into(), plain(identity).into_os_string()]);
            }
            text(run("age", &arguments, Some(bytes), PATIENCE)?, span)
        }
        Opening::Sops { is_document: true } => {
            let arguments = ["-d".into(), "--output-type".into(), "json".into(), plain(path).into_os_string()];
            let json = run("sops", &arguments, None, PATIENCE)?;
            // The words of the parser may quote what it read.
            let json = serde_json::from_slice(&json).map_err(|error| {
                format!("what `sops` printed is no JSON (line {}, column {})", error.line(), error.column())
            })?;
            Ok(node_of(json, span))
        }
        Opening::Sops { is_document: false } => {
            text(run("sops", &["-d".into(), plain(path).into_os_string()], None, PATIENCE)?, span)
        }
    }
}

/// Returns a path that no program takes for an option.
fn plain(path: &Path) -> PathBuf {
    if path.as_os_str().as_encoded_bytes().first() == Some(&b'-') { Path::new(".").join(path) } else { path.into() }
}

fn text(bytes: Vec<u8>, span: Span) -> Result<Node, String> {
    let text = String::from_utf8(bytes).map_err(|_| "what is in it is not UTF-8".to_owned())?;
    Ok(Node::new(Value::Str(text), span))
}

fn node_of(json: Json, span: Span) -> Node {
    let value = match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(value),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number.into()),
            (_, Some(number)) => Value::Int(number.into()),
            _ => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::Str(text),
        Json::Array(list) => Value::Seq(list.into_iter().map(|one| node_of(one, span)).collect()),
        Json::Object(map) => {
            let entries = map.into_iter().map(|(text, value)| (Key { text, span }, node_of(value, span)));
            Value::Map(Map(entries.collect()))
        }
    };
    Node::new(value, span)
}

/// Runs a program of the user's, with the user's environment and terminal, and returns what it printed.
fn run(program: &str, arguments: &[OsString], stdin: Option<&[u8]>, patience: Duration) -> Result<Vec<u8>, String> {
    let begun = Instant::now();
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("there is no program `{program}` on this machine"),
        _ => format!("`{program}` cannot be started: {error}"),
    })?;
    if let (Some(mut pipe), Some(bytes)) = (child.stdin.take(), stdin.map(<[u8]>::to_vec)) {
        // A program that ends without reading all of it says why itself.
        thread::spawn(move || drop(pipe.write_all(&bytes)));
    }
    let printed = heard(child.stdout.take(), MAX_OUTPUT);
    let complained = heard(child.stderr.take(), MAX_COMPLAINT);
    let ended = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if begun.elapsed() < patience => thread::sleep(Duration::from_millis(5)),
            Ok(None) | Err(_) => break None,
        }
    };
    let Some(status) = ended else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(format!("`{program}` did not end within {} s", patience.as_secs()));
    };
    // A child of the program may hold the pipes open.
    let left = || patience.saturating_sub(begun.elapsed()).min(Duration::from_secs(5));
    let printed = printed.recv_timeout(left()).map_err(|_| format!("`{program}` ended and left its output open"))?;
    if !status.success() {
        let said = complained.recv_timeout(left()).unwrap_or_default();
        return Err(format!("`{program}` failed ({}){}", how(status), words(&said)));
    }
    if printed.len() as u64 > MAX_OUTPUT {
        return Err(format!("`{program}` printed more than {} MiB", MAX_OUTPUT >> 20));
    }
    Ok(printed)
}

fn how(status: std::process::ExitStatus) -> String {
    status.code().map_or_else(|| "ended by a signal".to_owned(), |code| format!("exit status {code}"))
}

/// Reads a stream to its end and keeps one byte more than the limit.
fn heard(stream: Option<impl Read + Send + 'static>, limit: u64) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let Some(mut stream) = stream else { return };
        let mut kept = Vec::new();
        let _ = (&mut stream).take(limit + 1).read_to_end(&mut kept);
        let _ = io::copy(&mut stream, &mut io::sink());
        let _ = sender.send(kept);
    });
    receiver
}

/// Returns what a program said in one line.
fn words(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let lines = said.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains("age/report"));
    let line: String = lines.collect::<Vec<_>>().join("; ").chars().take(600).collect();
    if line.is_empty() { line } else { format!(": {line}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::yaml;

    fn read(text: &str) -> String {
        let sources = SourceMap::new();
        let node = yaml::read("t", text, &sources).unwrap();
        match Secret::read(&node) {
            None => "none".into(),
            Some(Ok(secret)) => format!("{:?}", secret.source),
            Some(Err(errors)) => errors.iter().map(|error| error.render(&sources, false)).collect(),
        }
    }

    #[test]
    fn secrets_are_told_from_maps_and_mistakes_are_named() {
        assert_eq!(read("{ secret: { env: TOKEN } }"), r#"Env { name: "TOKEN" }"#);
        assert_eq!(read("{ secret: { age: a.age } }"), r#"Age { file: "a.age", identity: None }"#);
        assert!(read("{ secret: { sops: a.yaml, key: b.c } }").contains(r#"key: Some("b.c")"#));
        for other in ["{ secret: x }", "{ secret: { env: A }, more: 1 }", "[secret]", "{ secret: }"] {
            assert_eq!(read(other), "none", "{other}");
        }
        let check = |text: &str, words: &str| assert!(read(text).contains(words), "{text}: {}", read(text));
        check("{ secret: { sopps: a } }", "did you mean `sops`");
        check("{ secret: {} }", "one of `sops`, `age` and `env`");
        check("{ secret: { env: A, age: b } }", "t:1:11: error: a secret has one of");
        check("{ secret: { env: A, key: b } }", "t:1:21: error: `key` is for `sops`");
        check("{ secret: { env: A, identity: b } }", "`identity` is for `age`");
        check("{ secret: { env: '{{ a }}' } }", "takes no expression");
        check("{ secret: { env: [A] } }", "expected a string, found a list");
    }

    #[test]
    fn a_program_is_bounded_and_quoted() {
        let sh = |script: &str, stdin: Option<&[u8]>, seconds: u64| {
            run("sh", &["-c".into(), script.into()], stdin, Duration::from_secs(seconds))
        };
        assert_eq!(sh("cat", Some(b"in"), 60).unwrap(), b"in");
        assert_eq!(sh("cat >/dev/null; echo out", Some(&vec![0; 1 << 20]), 60).unwrap(), b"out\n");
        assert_eq!(
            sh("echo secret; echo a >&2; echo b >&2; exit 3", None, 60).unwrap_err(),
            "`sh` failed (exit status 3): a; b"
        );
        assert_eq!(sh("yes", None, 1).unwrap_err(), "`sh` did not end within 1 s");
        assert_eq!(sh("head -c 17000000 /dev/zero", None, 60).unwrap_err(), "`sh` printed more than 16 MiB");
        let missing = run("vprov-no-such-program", &[], None, Duration::from_secs(5)).unwrap_err();
        assert_eq!(missing, "there is no program `vprov-no-such-program` on this machine");
    }

    #[test]
    fn what_is_printed_has_types_and_ways() {
        let span = Span::new(SourceMap::new().add("t", ""), 0..0);
        let json = serde_json::json!({ "db": { "password": "x", "port": 5432, "list": [true, 1.5] } });
        let node = node_of(json, span);
        assert_eq!(find(&node, "db.port", "f").unwrap().value, Value::Int(5432));
        assert_eq!(find(&node, "db.list.0", "f").unwrap().value, Value::Bool(true));
        assert_eq!(find(&node, "db.pasword", "f").unwrap_err(), "`f` has no `db.pasword`; did you mean `db.password`?");
        assert_eq!(find(&node, "x", "f").unwrap_err(), "`f` has no `x`");
    }
}
