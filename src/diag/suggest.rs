//! "Did you mean".

/// Returns the candidate that is nearest to what was written, if it is near enough to be meant.
///
/// Near is a Jaro-Winkler similarity above 0.8 (the threshold of clap), or a distance of one edit or swap.
#[must_use]
pub fn did_you_mean<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    // Comparing costs the product of both lengths, and nobody means a name of that length.
    if name.is_empty() || name.len() > 256 {
        return None;
    }
    let lower = name.to_lowercase();
    let mut best: Option<(f64, &str)> = None;
    for candidate in candidates.into_iter().filter(|candidate| candidate.len() <= 256) {
        let other = candidate.to_lowercase();
        let mut score = strsim::jaro_winkler(&lower, &other);
        if strsim::osa_distance(&lower, &other) <= 1 && other.len() > 2 {
            score = score.max(0.9);
        }
        if score > 0.8 && best.is_none_or(|(top, _)| score > top) {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Returns ``did you mean `x`?``, or the list of candidates if it is short.
#[must_use]
pub fn suggestion<'c>(name: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    let candidates: Vec<&str> = candidates.into_iter().collect();
    if let Some(meant) = did_you_mean(name, candidates.iter().copied()) {
        return Some(format!("did you mean `{meant}`?"));
    }
    (!candidates.is_empty() && candidates.len() <= 24)
        .then(|| format!("known are {}", candidates.iter().map(|c| format!("`{c}`")).collect::<Vec<_>>().join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_meant() {
        let kinds = ["sysctl", "kernel_cmdline", "service", "hugepages", "ksm"];
        let check = |name, meant| assert_eq!(did_you_mean(name, kinds), meant, "{name}");
        check("sysctll", Some("sysctl"));
        check("Sysctl", Some("sysctl"));
        check("kernel-cmdline", Some("kernel_cmdline"));
        check("hugepage", Some("hugepages"));
        check("kms", Some("ksm"));
        check("zzz", None);
        check("", None);
        assert_eq!(suggestion("zzz", ["a", "b"]).unwrap(), "known are `a`, `b`");
        assert_eq!(suggestion("zzz", []), None);
    }
}
