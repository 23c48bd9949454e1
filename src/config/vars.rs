//! Variables and settings in layers: a deeper layer wins, and two layers of one depth must agree.
//!
//! The layers are `vars` of the inventory, groups from outer to inner, the host, and `--set`. Defaults of playbooks and
//! modules lie below all of them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, OnceLock},
};

use minijinja::Value as Jinja;

use super::{
    expr::{Template, jinja_of},
    node::{Key, Node},
};
use crate::diag::{Diagnostic, Diagnostics, SourceMap};

/// A value of a layer, with the templates in it compiled.
#[derive(Debug)]
pub struct Var {
    /// The name, with its place.
    pub key: Key,
    /// The value as it was written.
    pub node: Node,
    /// The value with its templates compiled.
    pub template: Template,
    fixed: OnceLock<Jinja>,
}

impl Var {
    /// Takes a value.
    ///
    /// # Errors
    /// Templates that do not parse.
    pub fn new(key: Key, node: &Node, sources: &SourceMap) -> Result<Arc<Self>, Diagnostics> {
        let template = Template::compile(node, sources)?;
        Ok(Arc::new(Self { key, node: node.clone(), template, fixed: OnceLock::new() }))
    }

    /// Returns the value for expressions if it holds no template; it is made once for all hosts.
    #[must_use]
    pub fn fixed(&self) -> Option<&Jinja> {
        let node = self.template.fixed()?;
        Some(self.fixed.get_or_init(|| jinja_of(node)))
    }
}

/// The variables of a host by name.
pub type Vars = BTreeMap<String, Arc<Var>>;

/// Where values come from.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'l> {
    /// How deep it lies; the deepest wins.
    pub depth: u32,
    /// The values.
    pub vars: &'l [Arc<Var>],
}

/// Puts layers over each other. They come in any order.
///
/// Two layers of one depth with different values are an error that names both places, unless a deeper one decides.
pub fn layered(layers: &[Layer<'_>], what: &str, diagnostics: &mut Diagnostics) -> Vars {
    struct Chosen<'l> {
        depth: u32,
        var: &'l Arc<Var>,
        against: Option<&'l Arc<Var>>,
    }
    let mut layers = layers.to_vec();
    layers.sort_by_key(|layer| layer.depth);
    let mut chosen: HashMap<&str, Chosen<'_>> = HashMap::new();
    for layer in &layers {
        for var in layer.vars {
            let new = Chosen { depth: layer.depth, var, against: None };
            match chosen.get_mut(var.key.text.as_str()) {
                Some(old) if old.depth == layer.depth => {
                    if !old.var.node.same_value(&var.node) {
                        old.against = Some(var);
                    }
                }
                Some(old) => *old = new,
                None => {
                    chosen.insert(&var.key.text, new);
                }
            }
        }
    }
    let mut vars = Vars::new();
    for (name, Chosen { var, against, .. }) in chosen {
        if let Some(other) = against {
            diagnostics.push(
                Diagnostic::error(format!("two groups of one depth give {what} `{name}` different values"))
                    .label(var.key.span, "this one")
                    .label(other.key.span, "and this one")
                    .help("set it for the host, or in a group that is a member of one of them"),
            );
        }
        vars.insert(name.to_owned(), Arc::clone(var));
    }
    vars
}
