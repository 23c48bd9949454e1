//! Stage 1: files to documents with places, documents and facts to the declarations of one host.
//!
//! `docs/language.md` describes the language. A file is parsed once into a tree of [`Node`]s; everything that can be said
//! without a host is said by [`Project::load`], all at once; [`Project::expand`] is pure and runs for many hosts at once.

pub mod yaml;
pub mod node;
pub mod de;
pub mod range;
pub mod fold;
pub mod size;
pub mod expr;
pub mod body;
pub mod module;
pub mod vars;
pub mod rollout;
pub mod inventory;
pub mod limit;
mod load;
pub mod secret;
pub mod embedded;
mod check;
pub mod declared;
pub mod data;
mod expand;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

pub use declared::{Declared, Level};
pub use inventory::{Connection, HostSpec, Inventory, Ssh};
pub use load::SourceDigest;
pub use module::{Class, Library, Module, Parameter, ParameterType};
pub use node::{Key, Map, Node, Taint, Value};

use crate::diag::{Diagnostic, Diagnostics, SourceMap};

/// What the language must know of kinds of resources. `resource` implements it.
pub trait Kinds {
    /// Returns the names of all kinds.
    fn names(&self) -> Vec<&'static str>;

    /// Checks parameters that hold no template. The kind is one of [`Kinds::names`].
    fn check(&self, kind: &str, params: &Node) -> Diagnostics;

    /// Returns the parameters of a kind that name files beside the YAML file. Before the kind reads them for a host, the text
    /// of the file takes the place of its name.
    fn file_parameters(&self, kind: &str) -> &'static [FileParameter] {
        let _ = kind;
        &[]
    }
}

/// A parameter that names a file beside the YAML file in which its value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileParameter {
    /// The parameter, as `source`.
    pub parameter: &'static str,
    /// Whether the file is a template that is rendered first.
    pub is_template: bool,
}

/// How a project is loaded.
#[derive(Clone, Debug, Default)]
pub struct LoadOptions {
    /// Directories with `modules` and `playbooks` in them, looked into after those beside `hosts.yaml`.
    pub modules_dirs: Vec<PathBuf>,
    /// Variables as `key=value` (`--set`).
    pub set: Vec<String>,
    /// Path and text of embedded files; [`embedded::FILES`] but in tests.
    pub embedded: &'static [(&'static str, &'static str)],
    /// The JSON Schema of facts, so that an unknown fact is told before any host is asked.
    pub facts: Option<serde_json::Value>,
}

/// An inventory with everything that it uses.
#[derive(Debug)]
pub struct Project {
    inventory: Inventory,
    library: Library,
    sources: Arc<SourceMap>,
    set: Vec<Arc<vars::Var>>,
    files: Arc<load::Files>,
    secrets: Arc<secret::Secrets>,
    file_parameters: Vec<(&'static str, &'static [FileParameter])>,
    /// The inventory without what hosts should be, for plan files.
    reach: Node,
}

impl Project {
    /// Loads an inventory, the modules and playbooks beside it, and those of the options, and checks all that can be checked
    /// without a host. The texts are added to `sources`, which is needed to show diagnostics. Returns the warnings as well.
    ///
    /// # Errors
    /// Everything that is wrong, sorted by file and line.
    pub fn load(
        path: &Path,
        options: &LoadOptions,
        kinds: &dyn Kinds,
        sources: &Arc<SourceMap>,
    ) -> Result<(Self, Diagnostics), Diagnostics> {
        let mut files = load::Files::default();
        let mut diagnostics = Diagnostics::new();
        let node = files.document(path, sources)?;
        let library = library(&mut files, path.parent(), options, sources, &mut diagnostics);
        let set = set(&options.set, sources, &mut diagnostics);
        let inventory = match Inventory::read(&node, &set, sources) {
            Ok((inventory, warnings)) => {
                diagnostics.append(warnings);
                Some(inventory)
            }
            Err(errors) => {
                diagnostics.append(errors);
                None
            }
        };
        let known = inventory.is_some() && !diagnostics.has_errors();
        let files = Arc::new(files);
        let file_parameters = kinds
            .names()
            .into_iter()
            .map(|name| (name, kinds.file_parameters(name)))
            .filter(|(_, list)| !list.is_empty());
        let project = Self {
            inventory: inventory.unwrap_or_default(),
            library,
            sources: Arc::clone(sources),
            set,
            secrets: Arc::new(secret::Secrets::new(Arc::clone(&files), Arc::clone(sources))),
            files,
            file_parameters: file_parameters.collect(),
            reach: inventory::reach(&node),
        };
        // A file that could not be read would make names unknown that are not.
        if known {
            diagnostics.append(check::check(&project, kinds, options.facts.as_ref()));
        }
        diagnostics.sort();
        diagnostics.or(project)
    }

    /// Loads an inventory alone: its hosts can be selected and reached, and nothing that they declare is looked at.
    ///
    /// # Errors
    /// Everything that is wrong with the inventory by itself.
    pub fn load_inventory(
        path: &Path,
        options: &LoadOptions,
        sources: &Arc<SourceMap>,
    ) -> Result<(Self, Diagnostics), Diagnostics> {
        let mut files = load::Files::default();
        let mut diagnostics = Diagnostics::new();
        let node = files.document(path, sources)?;
        let set = set(&options.set, sources, &mut diagnostics);
        let (inventory, warnings) = Inventory::read(&node, &set, sources)?;
        diagnostics.append(warnings);
        let project = Self { set, ..Self::of_reach(inventory, node, sources, files) };
        diagnostics.or(project)
    }

    /// Takes the inventory that [`Project::reach`] gave: its hosts can be selected and reached.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn from_reach(node: Node, sources: &Arc<SourceMap>) -> Result<Self, Diagnostics> {
        let (inventory, _) = Inventory::read(&node, &[], sources)?;
        Ok(Self::of_reach(inventory, node, sources, load::Files::default()))
    }

    fn of_reach(inventory: Inventory, node: Node, sources: &Arc<SourceMap>, files: load::Files) -> Self {
        let files = Arc::new(files);
        Self {
            inventory,
            library: Library::default(),
            sources: Arc::clone(sources),
            set: vec![],
            secrets: Arc::new(secret::Secrets::new(Arc::clone(&files), Arc::clone(sources))),
            files,
            file_parameters: vec![],
            reach: inventory::reach(&node),
        }
    }

    /// Returns the inventory without what hosts should be: their names, groups and connections, and how runs are done.
    #[must_use]
    pub fn reach(&self) -> &Node {
        &self.reach
    }

    /// Returns all hosts in the order of the inventory.
    #[must_use]
    pub fn hosts(&self) -> &[Arc<HostSpec>] {
        self.inventory.hosts()
    }

    /// Returns the inventory.
    #[must_use]
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Returns the modules and playbooks.
    #[must_use]
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// Returns the hosts that a limit selects; see [`limit::select`].
    ///
    /// # Errors
    /// As [`limit::select`].
    pub fn select(&self, name: &str, limit: &str) -> Result<Vec<Arc<HostSpec>>, Diagnostics> {
        limit::select(&self.inventory, name, limit, &self.sources)
    }

    /// Returns the texts, for showing diagnostics.
    #[must_use]
    pub fn sources(&self) -> &Arc<SourceMap> {
        &self.sources
    }

    /// Returns the digests of all files that were read, by name. Embedded files are part of the program and not among them.
    #[must_use]
    pub fn digests(&self) -> Vec<SourceDigest> {
        self.files.digests()
    }

    /// Returns the module that an entry names; `None` where it names a kind.
    fn module_of(&self, name: &str) -> Option<&Arc<Module>> {
        self.library.module(name)
    }

    fn is_set(&self, name: &str) -> bool {
        self.set.iter().any(|var| var.key.text == name)
    }

    fn file_parameters(&self, kind: &str) -> &'static [FileParameter] {
        self.file_parameters.iter().find(|(name, _)| *name == kind).map_or(&[], |(_, list)| list)
    }

    /// Puts the contents of files in the place of the parameters that name them.
    fn put_contents(&self, files: &[FileParameter], params: &mut Node, scope: &expr::Scope) -> Result<(), Diagnostic> {
        let Value::Map(map) = &mut params.value else { return Ok(()) };
        for file in files {
            let Some((_, node)) = map.0.iter_mut().find(|(key, node)| key.text == file.parameter && !node.is_null())
            else {
                continue;
            };
            if node.deep_taint().sensitive {
                let words = format!("`{}` names a file, so it cannot be made of a secret", file.parameter);
                return Err(Diagnostic::error(words).at(node.span));
            }
            let bytes = self.files.content(node, &self.sources)?;
            let Some(text) = bytes.text() else {
                return Err(Diagnostic::error("the file is not UTF-8").at(node.span));
            };
            let mut content = if file.is_template {
                self.files.template(node, text, &self.sources)?.render(scope, &self.sources)?
            } else {
                Node::new(Value::Str(text.to_owned()), node.span)
            };
            content.span = node.span;
            content.mark(node.taint);
            *node = content;
        }
        Ok(())
    }
}

/// Loads modules and playbooks alone, for `explain` and `schema`: those of the options, then those embedded.
///
/// # Errors
/// Everything that is wrong with them by themselves.
pub fn load_library(options: &LoadOptions, sources: &SourceMap) -> Result<Library, Diagnostics> {
    let mut diagnostics = Diagnostics::new();
    let library = library(&mut load::Files::default(), None, options, sources, &mut diagnostics);
    if diagnostics.has_errors() { Err(diagnostics) } else { Ok(library) }
}

fn library(
    files: &mut load::Files,
    beside: Option<&Path>,
    options: &LoadOptions,
    sources: &SourceMap,
    diagnostics: &mut Diagnostics,
) -> Library {
    let mut library = Library::default();
    for directory in beside.into_iter().chain(options.modules_dirs.iter().map(PathBuf::as_path)) {
        files.library(directory, &mut library, sources, diagnostics);
    }
    for (path, text) in options.embedded {
        let (folder, file) = path.split_once('/').unwrap_or(("", path));
        let name = file.strip_suffix(".yaml").unwrap_or(file);
        let class = if folder == "playbooks" { Class::Playbook } else { Class::Module };
        if library.names(class).any(|other| other == name) {
            continue;
        }
        let read = yaml::read(&format!("vprov:{path}"), text, sources)
            .map_err(Diagnostics::from)
            .and_then(|node| Module::read(name, class, &node, sources));
        match read {
            Ok(module) => library.add(Module { is_embedded: true, ..module }),
            Err(errors) => diagnostics.append(errors),
        }
    }
    library
}

/// Reads `--set key=value`; the value is YAML.
fn set(list: &[String], sources: &SourceMap, diagnostics: &mut Diagnostics) -> Vec<Arc<vars::Var>> {
    let mut set: Vec<Arc<vars::Var>> = Vec::new();
    for text in list {
        let source = sources.add("--set", text.as_str());
        let Some((name, value)) = text.split_once('=') else {
            let place = crate::diag::Span::new(source, 0..text.len());
            diagnostics.push(Diagnostic::error(format!("`{text}` is not `key=value`")).at(place));
            continue;
        };
        let key = Key { text: name.trim().to_owned(), span: crate::diag::Span::new(source, 0..name.len()) };
        module::check_name(&key.text, key.span, "variable", diagnostics);
        let node = yaml::read(&format!("--set {}", key.text), value, sources);
        match node.map_err(Diagnostics::from).and_then(|node| vars::Var::new(key, &node, sources)) {
            Ok(var) => {
                // The last one of a name counts, as with options everywhere.
                set.retain(|other| other.key.text != var.key.text);
                set.push(var);
            }
            Err(errors) => diagnostics.append(errors),
        }
    }
    set
}

#[cfg(test)]
mod tests;
