//! Directories of configuration fragments that mask each other: `sysctl.d`, `tmpfiles.d`, `udev/rules.d`.
//!
//! All three follow one rule: a file name in a higher directory hides the same name in a lower one (a link to
//! `/dev/null` hides it without a replacement), and what remains is read in the order of the names, whatever
//! directory each lies in (sysctl.d(5), tmpfiles.d(5), udev(7)).

use std::fmt;

use crate::host::path::AbsPath;

/// The directories of sysctl.d from high to low (sysctl.d(5)).
pub const SYSCTL_DIRS: [&str; 4] = ["/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d"];

/// The directories of tmpfiles.d from high to low (tmpfiles.d(5)).
pub const TMPFILES_DIRS: [&str; 4] =
    ["/etc/tmpfiles.d", "/run/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/usr/lib/tmpfiles.d"];

/// The directories of udev rules from high to low (udev(7)).
pub const UDEV_DIRS: [&str; 4] =
    ["/etc/udev/rules.d", "/run/udev/rules.d", "/usr/local/lib/udev/rules.d", "/usr/lib/udev/rules.d"];

/// One file of such a directory, as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Where the file lies.
    pub path: AbsPath,
    /// Its content; `None` if it is a link to `/dev/null`, which masks the name.
    pub content: Option<Vec<u8>>,
}

impl Fragment {
    /// Takes a file with its content.
    pub fn new(path: AbsPath, content: impl Into<Vec<u8>>) -> Self {
        Self { path, content: Some(content.into()) }
    }

    /// Takes a link to `/dev/null`.
    #[must_use]
    pub fn masked(path: AbsPath) -> Self {
        Self { path, content: None }
    }
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: AbsPath,
    /// The line, from 1.
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path, self.line)
    }
}

/// Returns the files that are read, in the order in which they are read: names that do not end in `suffix`, files
/// outside `dirs`, hidden and masked ones are left out.
#[must_use]
pub fn in_order<'a>(dirs: &[&str], suffix: &str, files: &'a [Fragment]) -> Vec<&'a Fragment> {
    let rank = |file: &Fragment| {
        let parent = file.path.parent()?;
        dirs.iter().position(|dir| *dir == parent.as_str())
    };
    let mut ranked: Vec<(&str, usize, &Fragment)> = files
        .iter()
        .filter(|file| file.path.file_name().ends_with(suffix))
        .filter_map(|file| Some((file.path.file_name(), rank(file)?, file)))
        .collect();
    ranked.sort_by_key(|(name, rank, _)| (*name, *rank));
    ranked.dedup_by_key(|(name, ..)| *name);
    ranked.into_iter().map(|(.., file)| file).filter(|file| file.content.is_some()).collect()
}

/// Returns the files as they will be when `path` has the given content, or does not exist any more for `None`.
#[must_use]
pub fn with_file(files: &[Fragment], path: &AbsPath, content: Option<&[u8]>) -> Vec<Fragment> {
    let mut after: Vec<Fragment> = files.iter().filter(|file| file.path != *path).cloned().collect();
    if let Some(content) = content {
        after.push(Fragment::new(path.clone(), content));
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_directory_hides_a_name_and_names_give_the_order() {
        let file = |path: &str| Fragment::new(AbsPath::known(path), "");
        let files = [
            file("/usr/lib/sysctl.d/50-a.conf"),
            file("/usr/lib/sysctl.d/99-z.conf"),
            file("/etc/sysctl.d/99-z.conf"),
            file("/usr/lib/sysctl.d/60-off.conf"),
            Fragment::masked(AbsPath::known("/etc/sysctl.d/60-off.conf")),
            file("/run/sysctl.d/70-run.conf"),
            file("/etc/sysctl.d/aio.conf"),
            file("/etc/sysctl.d/README.sysctl"),
            file("/etc/sysctl.conf"),
        ];
        let paths = |files: &[Fragment]| -> Vec<String> {
            in_order(&SYSCTL_DIRS, ".conf", files).iter().map(|file| file.path.to_string()).collect()
        };
        let expected = [
            "/usr/lib/sysctl.d/50-a.conf",
            "/run/sysctl.d/70-run.conf",
            "/etc/sysctl.d/99-z.conf",
            "/etc/sysctl.d/aio.conf",
        ];
        assert_eq!(paths(&files), expected);
        let after = with_file(&files, &AbsPath::known("/etc/sysctl.d/99-z.conf"), None);
        assert_eq!(paths(&after)[2], "/usr/lib/sysctl.d/99-z.conf");
        let mut reversed = files.to_vec();
        reversed.reverse();
        assert_eq!(paths(&reversed), expected);
    }
}
