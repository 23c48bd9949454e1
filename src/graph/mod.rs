//! Stage 5: the order of a catalog's resources.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

use petgraph::{
    Direction,
    algo::tarjan_scc,
    graph::{DiGraph, NodeIndex},
    visit::EdgeRef as _,
};

use crate::{
    catalog::{Catalog, Entry},
    diag::{Diagnostic, Diagnostics, Span},
    resource::Handle,
};

/// The resources of a catalog, by their place in it, with the order in which they are converged.
#[derive(Debug, Default)]
pub struct Graph {
    graph: DiGraph<usize, Edge>,
    /// The places of the entries in the catalog, each after everything it depends on.
    pub order: Vec<usize>,
}

/// Why one resource comes after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Where the dependency was written; `None` for one that follows from what the resources are.
    pub place: Option<Span>,
    /// The first one notifies the second.
    pub notifies: bool,
    /// Why, for people.
    pub reason: String,
}

impl Graph {
    /// Builds the graph of a catalog.
    ///
    /// # Errors
    /// Names in `requires` or `notify` that no resource has, and cycles, each shown whole.
    pub fn build(catalog: &Catalog) -> Result<Self, Diagnostics> {
        let mut diagnostics = Diagnostics::new();
        let mut graph = DiGraph::new();
        let nodes: Vec<NodeIndex> = (0..catalog.entries.len()).map(|at| graph.add_node(at)).collect();
        let mut add = |from: usize, to: usize, edge: Edge| {
            // A module's own label may stand in a `requires` inside it; nothing waits for itself.
            if from != to {
                graph.add_edge(nodes[from], nodes[to], edge);
            }
        };
        let named = by_name(catalog);
        for (at, entry) in catalog.entries.iter().enumerate() {
            for (notifies, list) in [(false, &entry.requires), (true, &entry.notify)] {
                for (name, place) in list {
                    let Some(targets) = named.get(name.as_str()) else {
                        diagnostics.push(unknown_name(name, *place, &named));
                        continue;
                    };
                    for &target in targets {
                        let reason = format!("{} `{name}`", if notifies { "notifies" } else { "requires" });
                        let (from, to) = if notifies { (at, target) } else { (target, at) };
                        add(from, to, Edge { place: Some(*place), notifies, reason });
                    }
                }
            }
        }
        for (from, to, reason) in implied(&catalog.entries) {
            add(from, to, Edge { place: None, notifies: false, reason });
        }
        let order = order(&graph);
        if order.len() < catalog.entries.len() {
            for component in tarjan_scc(&graph).into_iter().filter(|component| component.len() > 1) {
                diagnostics.push(cycle(&graph, &component, catalog));
            }
        }
        if diagnostics.has_errors() { Err(diagnostics) } else { Ok(Self { graph, order }) }
    }

    /// Returns what a resource comes directly after, with the reason.
    pub fn before(&self, at: usize) -> impl Iterator<Item = (usize, &Edge)> {
        let edges = self.graph.edges_directed(NodeIndex::new(at), Direction::Incoming);
        edges.map(|edge| (self.graph[edge.source()], edge.weight()))
    }

    /// Returns what a resource notifies.
    pub fn notified_by(&self, at: usize) -> impl Iterator<Item = usize> {
        let edges = self.graph.edges_directed(NodeIndex::new(at), Direction::Outgoing);
        edges.filter(|edge| edge.weight().notifies).map(|edge| self.graph[edge.target()])
    }
}

fn by_name(catalog: &Catalog) -> BTreeMap<&str, Vec<usize>> {
    let mut named: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, entry) in catalog.entries.iter().enumerate() {
        for name in &entry.names {
            named.entry(name).or_default().push(at);
        }
    }
    named
}

fn unknown_name(name: &str, place: Span, named: &BTreeMap<&str, Vec<usize>>) -> Diagnostic {
    Diagnostic::error(format!("no resource of this host is named `{name}`"))
        .at(place)
        .suggest(name, named.keys().copied())
        .help("a name is what stands in `name:` beside an entry, or an address `kind[name]`")
}

/// Returns the edges that follow from what resources provide and need: from, to, why.
fn implied(entries: &[Entry]) -> Vec<(usize, usize, String)> {
    let links: Vec<_> = entries.iter().map(|entry| entry.resource.links()).collect();
    let mut providers: BTreeMap<&Handle, usize> = BTreeMap::new();
    for (at, links) in links.iter().enumerate() {
        for handle in &links.provides {
            providers.entry(handle).or_insert(at);
        }
    }
    let mut edges = vec![];
    for (at, links) in links.iter().enumerate() {
        for handle in links.needs.iter().flat_map(met_by) {
            if let Some(&provider) = providers.get(&handle) {
                // What is taken back is so in the other order: a directory after what is in it.
                if [provider, at].iter().all(|at| !entries[*at].restores.is_empty()) {
                    edges.push((at, provider, format!("stands on what `{}` takes back", entries[provider].address)));
                    continue;
                }
                edges.push((provider, at, format!("needs what `{}` provides", entries[provider].address)));
            }
        }
    }
    edges
}

/// Returns everything that meets a need: for a path also the directories and mounts above it.
fn met_by(need: &Handle) -> Vec<Handle> {
    let Handle::Path(path) = need else { return vec![need.clone()] };
    let mut handles = vec![];
    let mut next = Some(path.clone());
    while let Some(path) = next {
        next = path.parent();
        handles.push(Handle::Mount(path.clone()));
        handles.push(Handle::Path(path));
    }
    handles
}

/// Orders all nodes that are on no cycle and behind none. Among those that could come next the one with the first address
/// does, so that the order of files and entries changes nothing.
fn order(graph: &DiGraph<usize, Edge>) -> Vec<usize> {
    let mut waiting: Vec<usize> =
        graph.node_indices().map(|node| graph.edges_directed(node, Direction::Incoming).count()).collect();
    let mut ready: BinaryHeap<Reverse<usize>> =
        graph.node_indices().map(NodeIndex::index).filter(|at| waiting[*at] == 0).map(Reverse).collect();
    let mut order = vec![];
    while let Some(Reverse(at)) = ready.pop() {
        order.push(at);
        for edge in graph.edges(NodeIndex::new(at)) {
            let to = edge.target().index();
            waiting[to] -= 1;
            if waiting[to] == 0 {
                ready.push(Reverse(to));
            }
        }
    }
    order
}

/// Tells one whole loop of a component: each resource, and why the next one comes after it.
fn cycle(graph: &DiGraph<usize, Edge>, component: &[NodeIndex], catalog: &Catalog) -> Diagnostic {
    let members: BTreeSet<NodeIndex> = component.iter().copied().collect();
    let mut path: Vec<NodeIndex> = members.first().copied().into_iter().collect();
    let mut edges: Vec<&Edge> = vec![];
    // Within a strongly connected component every node has a next one, so this walk meets itself.
    while let Some(&last) = path.last() {
        let Some(edge) = graph.edges(last).find(|edge| members.contains(&edge.target())) else { break };
        edges.push(edge.weight());
        if let Some(start) = path.iter().position(|node| *node == edge.target()) {
            path.drain(..start);
            edges.drain(..start);
            break;
        }
        path.push(edge.target());
    }
    let address = |node: &NodeIndex| catalog.entries[graph[*node]].address.to_string();
    let mut names: Vec<String> = path.iter().map(address).collect();
    names.extend(path.first().map(address));
    let mut diagnostic = Diagnostic::error(format!("resources wait for each other: {}", names.join(" → ")));
    for (at, edge) in edges.iter().enumerate() {
        let place = edge.place.or_else(|| catalog.entries[graph[path[at]]].places.first().copied());
        if let Some(place) = place {
            let text = format!("`{}` comes after `{}`: {}", names[at + 1], names[at], edge.reason);
            diagnostic = diagnostic.label(place, text);
        }
    }
    diagnostic.help("remove one of these dependencies")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{catalog, config::declared::entries, diag::SourceMap};

    fn order_of(text: &str) -> Vec<String> {
        let catalog = catalog::build(entries(text, &SourceMap::new())).unwrap();
        let graph = Graph::build(&catalog).unwrap();
        graph.order.iter().map(|at| catalog.entries[*at].address.to_string()).collect()
    }

    fn wrong(text: &str) -> String {
        let sources = SourceMap::new();
        let catalog = catalog::build(entries(text, &sources)).unwrap();
        Graph::build(&catalog).unwrap_err().iter().map(|error| error.render(&sources, false)).collect()
    }

    const FOUR: [&str; 4] = [
        "- file: {path: /srv/app/conf, content: x}\n  notify: [demo]\n",
        "- directory: {path: /srv/app}\n",
        "- service: {name: demo}\n  name: demo\n",
        "- file: {path: /etc/last, content: x}\n  requires: [\"service[demo.service]\"]\n",
    ];

    #[test]
    fn the_order_follows_from_edges_and_addresses_alone() {
        let expected = ["directory[/srv/app]", "file[/srv/app/conf]", "service[demo.service]", "file[/etc/last]"];
        for turn in 0..4 {
            let mut entries = FOUR;
            entries.rotate_left(turn);
            assert_eq!(order_of(&entries.concat()), expected);
            entries.reverse();
            assert_eq!(order_of(&entries.concat()), expected);
        }
        assert_eq!(
            order_of(
                "- file: {path: /b, content: x}\n- assert: {that: true, message: m}\n- file: {path: /a, content: x}\n"
            ),
            ["assert[m]", "file[/a]", "file[/b]"],
        );
    }

    #[test]
    fn a_cycle_is_shown_whole_with_its_places() {
        let text = "- file: {path: /a, content: x}\n  name: a\n  requires: [c]\n\
                    - file: {path: /b, content: x}\n  name: b\n  requires: [a]\n\
                    - file: {path: /c, content: x}\n  name: c\n  requires: [b]\n\
                    - file: {path: /d, content: x}\n  requires: [c]\n";
        let shown = wrong(text);
        assert!(shown.contains("file[/a] → file[/b] → file[/c] → file[/a]"), "{shown}");
        for line in ["3:", "6:", "9:"] {
            assert!(shown.contains(line.trim_end_matches(':')), "{line} {shown}");
        }
        assert_eq!(shown.matches("requires `").count(), 3, "{shown}");
        assert!(!shown.contains("/d"), "{shown}");
    }

    #[test]
    fn an_unknown_name_has_a_suggestion() {
        let text = "- file: {path: /a, content: x}\n  name: settings\n- service: {name: demo}\n  requires: [setings]\n";
        let shown = wrong(text);
        assert!(shown.contains("no resource of this host is named `setings`"), "{shown}");
        assert!(shown.starts_with("t.yaml:4:14") && shown.contains("`settings`"), "{shown}");
    }
}
