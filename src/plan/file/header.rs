//! The first line of a plan file: what it is, who can read it, and how it would be noticed that it is not whole.

use serde::{Deserialize, Serialize};

use super::{FORMAT, PlanFileError};
use crate::host::bytes::Digest;

/// The longest first line, in bytes.
const LONGEST: usize = 4096;

/// The first line. The digest is over all that follows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The format, as `vprov.plan-file/1`.
    pub format: String,
    /// The version of vprov that wrote it.
    pub vprov: String,
    /// How many bytes follow.
    pub bytes: usize,
    /// Their digest.
    pub sha256: Digest,
}

/// Puts the first line before a body.
#[must_use]
pub fn with_header(body: &str) -> Vec<u8> {
    let header = Header {
        format: FORMAT.into(),
        vprov: env!("CARGO_PKG_VERSION").into(),
        bytes: body.len(),
        sha256: Digest::of(body.as_bytes()),
    };
    let header = serde_json::to_string(&header).expect("a header is plain data");
    format!("{header}\n{body}").into_bytes()
}

/// Tells whether bytes begin as a plan file does.
#[must_use]
pub fn begins(bytes: &[u8]) -> bool {
    bytes.starts_with(br#"{"format":"vprov.plan-file/"#)
}

/// Returns the first line and the body, which is exactly what was written.
///
/// # Errors
/// It is no plan file, of another format, cut short or edited.
pub fn split(bytes: &[u8]) -> Result<(Header, &[u8]), PlanFileError> {
    let is_report = || {
        bytes
            .get(..LONGEST.min(bytes.len()))
            .is_some_and(|head| String::from_utf8_lossy(head).contains(&format!("\"{}\"", super::super::FORMAT)))
    };
    if !begins(bytes) {
        return Err(if is_report() { PlanFileError::Report } else { PlanFileError::NoPlan });
    }
    let end = bytes.iter().take(LONGEST).position(|byte| *byte == b'\n').ok_or(PlanFileError::Cut)?;
    let (line, body) = (&bytes[..end], &bytes[end + 1..]);
    let format = serde_json::from_slice::<serde_json::Value>(line).ok();
    let format = format.as_ref().and_then(|line| line["format"].as_str()).ok_or(PlanFileError::Edited)?;
    if format != FORMAT {
        return Err(PlanFileError::Format { found: format.into() });
    }
    let header: Header = serde_json::from_slice(line).map_err(|_| PlanFileError::Edited)?;
    if body.len() < header.bytes {
        return Err(PlanFileError::Cut);
    }
    if body.len() > header.bytes || Digest::of(body) != header.sha256 {
        return Err(PlanFileError::Edited);
    }
    Ok((header, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_written_is_taken() {
        let whole = with_header("{}");
        assert_eq!(split(&whole).unwrap().1, b"{}");
        let check = |bytes: &[u8], words: &str| {
            let error = split(bytes).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        };
        check(&whole[..whole.len() - 1], "cut short");
        check(&whole[..50], "cut short");
        check(&[&whole[..], b"\n"].concat(), "edited");
        let text = String::from_utf8(whole.clone()).unwrap();
        check(text.replace("\n{}", "\n[]").as_bytes(), "edited");
        check(text.replace("plan-file/1", "plan-file/2").as_bytes(), "`vprov.plan-file/2`");
        check(b"hosts: {}\n", "no plan");
        check(b"", "no plan");
        check(b"{\n  \"format\": \"vprov.plan/1\",\n", "plan --json");
    }
}
