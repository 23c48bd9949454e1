//! The order of a host's changes as a drawing: layers from left to right, each change after all that it waits for.

use super::escaped;
use crate::{
    address::Address,
    plan::{Planned, Verdict},
};

/// A drawing of more changes would not be read.
const MOST: usize = 150;

const WIDTH: usize = 250;
const HEIGHT: usize = 26;
const ACROSS: usize = WIDTH + 60;
const DOWN: usize = HEIGHT + 12;

/// Draws what waits for what; empty where nothing does.
#[must_use]
pub fn drawing(planned: &Planned) -> String {
    let (names, edges) = edges(planned);
    if edges.is_empty() {
        return String::new();
    }
    if names.len() > MOST {
        return format!("<p class=soft>{} changes wait for each other: too many to be drawn.</p>", names.len());
    }
    let places = places(names.len(), &edges);
    let across = places.iter().map(|(layer, _)| layer + 1).max().unwrap_or(1);
    let down = places.iter().map(|(_, row)| row + 1).max().unwrap_or(1);
    let (width, height) = (across * ACROSS - 60 + 4, down * DOWN);
    let corner = |at: usize| (places[at].0 * ACROSS + 2, places[at].1 * DOWN + 4);
    let mut out = format!(
        "<div class=scroll><svg width={width} height={height} viewBox=\"0 0 {width} {height}\" role=img \
         aria-label=\"What waits for what\">"
    );
    for (from, to) in &edges {
        let ((x, y), (u, v)) = (corner(*from), corner(*to));
        let (x, y, u, v) = (x + WIDTH, y + HEIGHT / 2, u, v + HEIGHT / 2);
        let (bend, end) = ((u - x) / 2, u - 5);
        out.push_str(&format!("<path d=\"M{x} {y}C{} {y} {} {v} {end} {v}\"/>", x + bend, u - bend));
        out.push_str(&format!("<path class=arrow d=\"M{u} {v}l-7 -4v8z\"/>"));
    }
    for (at, name) in names.iter().enumerate() {
        let (x, y) = corner(at);
        let short: String =
            if name.chars().count() > 33 { name.chars().take(32).chain(['…']).collect() } else { name.clone() };
        out.push_str(&format!(
            "<g><title>{}</title><rect x={x} y={y} width={WIDTH} height={HEIGHT} rx=5 /><text x={} y={}>{}</text></g>",
            escaped(name),
            x + 8,
            y + 17,
            escaped(&short)
        ));
    }
    out.push_str("</svg></div>");
    out
}

/// Returns what is drawn by name, and what comes before what.
fn edges(planned: &Planned) -> (Vec<String>, Vec<(usize, usize)>) {
    let place = |address: &Address| planned.resources.iter().position(|one| one.address == *address);
    let mut pairs: Vec<(usize, usize)> = vec![];
    for (at, resource) in planned.resources.iter().enumerate() {
        match &resource.verdict {
            Verdict::Change(change) => pairs.extend(change.needs.iter().map(|need| (*need, at))),
            Verdict::Blocked { by: because } | Verdict::Deferred { because, .. } => {
                pairs.extend(place(because).map(|before| (before, at)));
            }
            _ => {}
        }
    }
    pairs.retain(|(from, to)| from < to && *to < planned.resources.len());
    pairs.sort_unstable();
    pairs.dedup();
    let mut drawn: Vec<usize> = pairs.iter().flat_map(|(from, to)| [*from, *to]).collect();
    drawn.sort_unstable();
    drawn.dedup();
    let index = |at: usize| drawn.binary_search(&at).unwrap_or_default();
    let edges = pairs.iter().map(|(from, to)| (index(*from), index(*to))).collect();
    (drawn.iter().map(|at| planned.resources[*at].address.to_string()).collect(), edges)
}

/// Returns layer and row of each node. Edges lead from lower to higher numbers.
fn places(n: usize, edges: &[(usize, usize)]) -> Vec<(usize, usize)> {
    let mut layers = vec![0; n];
    for at in 0..n {
        layers[at] = edges.iter().filter(|(_, to)| *to == at).map(|(from, _)| layers[*from] + 1).max().unwrap_or(0);
    }
    let mut rows = vec![0; n];
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by_key(|at| layers[*at]);
    let mut next = vec![0; n + 1];
    let mut at = 0;
    while at < n {
        let layer = layers[order[at]];
        let mut same: Vec<usize> = order[at..].iter().copied().take_while(|node| layers[*node] == layer).collect();
        at += same.len();
        // Near to what they come after, so that few lines cross.
        let middle = |node: &usize| {
            let before: Vec<usize> = edges.iter().filter(|(_, to)| to == node).map(|(from, _)| rows[*from]).collect();
            before.iter().sum::<usize>() * 100 / before.len().max(1)
        };
        same.sort_by_key(|node| (middle(node), *node));
        for node in same {
            rows[node] = next[layer];
            next[layer] += 1;
        }
    }
    layers.into_iter().zip(rows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_stands_right_of_what_it_waits_for() {
        assert_eq!(places(4, &[(0, 2), (1, 2), (2, 3)]), [(0, 0), (0, 1), (1, 0), (2, 0)]);
        assert_eq!(places(3, &[(0, 1), (0, 2)]), [(0, 0), (1, 0), (1, 1)]);
    }
}
