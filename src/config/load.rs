//! The only reader of the user's files.
#![expect(clippy::disallowed_methods, reason = "the user's files are read here and nowhere else")]

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    expr::Template,
    module::{Class, Library, Module},
    node::{Node, Value},
    yaml,
};
use crate::{
    diag::{Diagnostic, Diagnostics, SourceId, SourceMap, Span},
    host::bytes::{Bytes, Digest},
};

/// The greatest size of a file that a `source` or `template` names, in bytes.
const MAX_CONTENT: u64 = 16 << 20;

/// At most this many modules and playbooks are read from one directory.
const MAX_FILES: usize = 10_000;

/// The digest of a file that was read, for plans.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceDigest {
    /// The file as messages show it.
    pub name: String,
    /// The digest of its content.
    pub digest: Digest,
}

/// Reads the user's files and remembers what it read.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Where the files of sources stand, for paths relative to them.
    directories: HashMap<SourceId, PathBuf>,
    digests: Mutex<Vec<SourceDigest>>,
    contents: Mutex<HashMap<PathBuf, Arc<Bytes>>>,
    /// Compiled templates, by the directory and the name that the value has.
    templates: Mutex<HashMap<(SourceId, String), Arc<Template>>>,
}

impl Files {
    /// Reads a YAML file.
    pub(super) fn document(&mut self, path: &Path, sources: &SourceMap) -> Result<Node, Diagnostic> {
        let name = path.display().to_string();
        let bytes = read(path, yaml::MAX_BYTES as u64).map_err(|error| unreadable(&name, &error))?;
        self.remember(&name, &bytes);
        let id = match String::from_utf8(bytes) {
            Ok(text) => {
                let id = sources.add(&*name, text);
                self.directories.insert(id, path.parent().map(Path::to_path_buf).unwrap_or_default());
                id
            }
            Err(error) => {
                // What is right before the mistake is the same in the text that is shown.
                let at = error.utf8_error().valid_up_to();
                let id = sources.add(name, String::from_utf8_lossy(error.as_bytes()).into_owned());
                return Err(Diagnostic::error("the file is not UTF-8").at(Span::new(id, at..at + 3)));
            }
        };
        let text = sources.get(id).map(|source| Arc::clone(source.text())).unwrap_or_else(|| "".into());
        yaml::parse(&text, id)
    }

    /// Reads all modules and playbooks of a directory into the library.
    pub(super) fn library(
        &mut self,
        directory: &Path,
        library: &mut Library,
        sources: &SourceMap,
        diagnostics: &mut Diagnostics,
    ) {
        for (folder, class) in [("modules", Class::Module), ("playbooks", Class::Playbook)] {
            let folder = directory.join(folder);
            let names = match list(&folder) {
                Ok(names) => names,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => {
                    diagnostics.push(unreadable(&folder.display().to_string(), &error));
                    continue;
                }
            };
            for (name, path) in names {
                let module = self
                    .document(&path, sources)
                    .map_err(Diagnostics::from)
                    .and_then(|node| Module::read(&name, class, &node, sources));
                match module {
                    Ok(module) => library.add(module),
                    Err(errors) => diagnostics.append(errors),
                }
            }
        }
    }

    /// Reads the content that a value names, relative to the file in which the value stands.
    pub(super) fn content(&self, node: &Node, sources: &SourceMap) -> Result<Arc<Bytes>, Diagnostic> {
        let Some(text) = node.as_str().filter(|text| !text.is_empty() && !text.contains('\0')) else {
            return Err(Diagnostic::error(format!("expected a file, found {}", node.describe())).at(node.span));
        };
        self.file(text, node.span, sources).map(|(_, content)| content)
    }

    /// Returns the path of a file that is named at a place: relative to the file in which the name stands.
    pub(super) fn path(&self, name: &str, at: Span, sources: &SourceMap) -> Result<PathBuf, Diagnostic> {
        match self.directories.get(&at.source) {
            Some(directory) => Ok(directory.join(name)),
            None => {
                let source = sources.get(at.source).map_or_else(String::new, |source| source.name().to_owned());
                Err(Diagnostic::error(format!("no file can be named from `{source}`")).at(at))
            }
        }
    }

    /// Reads a file that is named at a place, once, and returns its path too.
    pub(super) fn file(&self, name: &str, at: Span, sources: &SourceMap) -> Result<(PathBuf, Arc<Bytes>), Diagnostic> {
        let path = self.path(name, at, sources)?;
        let mut contents = self.contents.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(content) = contents.get(&path) {
            return Ok((path, Arc::clone(content)));
        }
        let name = path.display().to_string();
        let bytes = read(&path, MAX_CONTENT).map_err(|error| unreadable(&name, &error).at(at))?;
        self.remember(&name, &bytes);
        let content = Arc::new(Bytes(bytes));
        contents.insert(path.clone(), Arc::clone(&content));
        Ok((path, content))
    }

    /// Compiles a template that [`Files::content`] gave, once for all hosts.
    pub(super) fn template(&self, node: &Node, text: &str, sources: &SourceMap) -> Result<Arc<Template>, Diagnostic> {
        let name = node.as_str().unwrap_or_default();
        let key = (node.span.source, name.to_owned());
        let mut templates = self.templates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(template) = templates.get(&key) {
            return Ok(Arc::clone(template));
        }
        let shown = match self.directories.get(&node.span.source) {
            Some(directory) => directory.join(name).display().to_string(),
            None => name.to_owned(),
        };
        let id = sources.add(shown, text);
        let whole = Node::new(Value::Str(text.to_owned()), Span::new(id, 0..text.len()));
        let template = Template::compile(&whole, sources).map_err(|errors| {
            let first = errors.into_iter().next().unwrap_or_else(|| Diagnostic::error("no template").at(whole.span));
            first.label(node.span, "named here")
        })?;
        let template = Arc::new(template);
        templates.insert(key, Arc::clone(&template));
        Ok(template)
    }

    /// Returns the digests of all files read so far, by name.
    pub(super) fn digests(&self) -> Vec<SourceDigest> {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        digests.sort_by(|a, b| a.name.cmp(&b.name));
        digests
    }

    fn remember(&self, name: &str, bytes: &[u8]) {
        let digest = SourceDigest { name: name.to_owned(), digest: Digest::of(bytes) };
        self.digests.lock().unwrap_or_else(PoisonError::into_inner).push(digest);
    }
}

/// Reads a file up to a size. A pipe or device would never end, so only regular files are read.
fn read(path: &Path, max: u64) -> io::Result<Vec<u8>> {
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Err(io::Error::other(format!("it is larger than {} MiB", max >> 20)));
    }
    Ok(bytes)
}

/// Returns names and paths of the YAML files of a directory, sorted.
fn list(folder: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)?.take(MAX_FILES) {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "yaml")
            && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            && !name.starts_with('.')
        {
            names.push((name.to_owned(), path.clone()));
        }
    }
    names.sort();
    Ok(names)
}

fn unreadable(name: &str, error: &io::Error) -> Diagnostic {
    let words = match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "it may not be read".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    };
    Diagnostic::error(format!("cannot read `{name}`: {words}"))
}
