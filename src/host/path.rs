//! [`AbsPath`]: the only form in which vprov names a file of a host.

use std::{borrow::Borrow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// An absolute, normal path of a host: no `.`, `..`, empty or control component, at most 4,095 bytes.
///
/// It is text, not bytes: a path is read by people in plans, and what cannot be shown is refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct AbsPath(String);

/// Why a text is no [`AbsPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The path does not begin with `/`.
    #[error("`{0}` is a relative path; a path on a host begins with `/`")]
    Relative(String),
    /// The path holds `.` or `..`.
    #[error("`{0}` holds a `{1}` component; write the path that it stands for")]
    NotNormal(String, &'static str),
    /// The path holds a control character.
    #[error("{0:?} holds a control character")]
    Control(String),
    /// The path is longer than the kernel takes (`PATH_MAX`, limits.h).
    #[error("the path is {0} bytes long; at most 4095 are possible")]
    TooLong(usize),
}

impl AbsPath {
    /// Takes a text as a path; repeated and trailing slashes are removed.
    pub fn new(text: impl Into<String>) -> Result<Self, PathError> {
        let text = text.into();
        if !text.starts_with('/') {
            return Err(PathError::Relative(text));
        }
        if text.chars().any(char::is_control) {
            return Err(PathError::Control(text));
        }
        if text.len() > 4095 {
            return Err(PathError::TooLong(text.len()));
        }
        let mut normal = String::with_capacity(text.len());
        for part in text.split('/').filter(|part| !part.is_empty()) {
            match part {
                "." => return Err(PathError::NotNormal(text, ".")),
                ".." => return Err(PathError::NotNormal(text, "..")),
                part => {
                    normal.push('/');
                    normal.push_str(part);
                }
            }
        }
        if normal.is_empty() {
            normal.push('/');
        }
        Ok(Self(normal))
    }

    /// Takes a path that the source code itself holds.
    ///
    /// # Panics
    /// Panics if it is no valid path, which a test of the caller shows at once.
    #[must_use]
    pub fn known(text: &str) -> Self {
        Self::new(text).expect("a path written in the source is absolute and normal")
    }

    /// Returns the path as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the directory that holds this path; `None` for `/`.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        let cut = self.0.rfind('/')?;
        match (cut, self.0.len()) {
            (0, 1) => None,
            (0, _) => Some(Self("/".into())),
            _ => Some(Self(self.0[..cut].into())),
        }
    }

    /// Returns the last component; empty for `/`.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or("")
    }

    /// Returns this path with one more component or relative path behind it.
    ///
    /// # Errors
    /// As [`AbsPath::new`].
    pub fn join(&self, rest: &str) -> Result<Self, PathError> {
        Self::new(format!("{}/{rest}", self.0))
    }

    /// Tells whether `self` is `other` or lies below it.
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        other.0 == "/"
            || self.0 == other.0
            || (self.0.starts_with(&other.0) && self.0.as_bytes().get(other.0.len()) == Some(&b'/'))
    }

    /// Tells whether the path is a kernel interface (`/proc`, `/sys`), where a write acts at once and nothing is stored.
    #[must_use]
    pub fn is_live(&self) -> bool {
        ["/proc/", "/sys/"].iter().any(|prefix| self.0.starts_with(prefix))
    }
}

impl fmt::Display for AbsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for AbsPath {
    type Err = PathError;
    fn from_str(text: &str) -> Result<Self, PathError> {
        Self::new(text)
    }
}

impl Borrow<str> for AbsPath {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for AbsPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for AbsPath {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "AbsPath".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^/" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_absolute_and_normal() {
        assert_eq!(AbsPath::new("//etc///default/grub/").unwrap().as_str(), "/etc/default/grub");
        assert_eq!(AbsPath::new("/").unwrap().as_str(), "/");
        assert!(matches!(AbsPath::new("etc"), Err(PathError::Relative(_))));
        assert!(matches!(AbsPath::new("/a/../b"), Err(PathError::NotNormal(_, ".."))));
        assert!(matches!(AbsPath::new("/a\n"), Err(PathError::Control(_))));
        assert!(matches!(AbsPath::new(format!("/{}", "a".repeat(4095))), Err(PathError::TooLong(4096))));
    }

    #[test]
    fn parents_and_containment() {
        let grub = AbsPath::known("/etc/default/grub");
        assert_eq!(grub.parent().unwrap().as_str(), "/etc/default");
        assert_eq!(AbsPath::known("/etc").parent().unwrap().as_str(), "/");
        assert_eq!(AbsPath::known("/").parent(), None);
        assert_eq!(grub.file_name(), "grub");
        assert!(grub.is_within(&AbsPath::known("/etc")));
        assert!(!AbsPath::known("/etcetera").is_within(&AbsPath::known("/etc")));
    }
}
