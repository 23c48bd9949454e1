//! Mode and owner as a person writes them, and as the host knows them.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use super::{Cannot, Seen};
use crate::{
    host::{path::AbsPath, read::Read},
    os::accounts::Accounts,
};

/// Permission bits in octal, as `"0644"`: quoted, because YAML takes a bare 0644 for another number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(pub u32);

/// The name or number of a user or group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Name(pub String);

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        u32::from_str_radix(&text, 8).ok().filter(|_| octal).map(Self).ok_or_else(|| {
            de::Error::custom(format!("`{text}` is no mode; write three or four octal digits in quotes, as \"0644\""))
        })
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Mode".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-7]{3,4}$" })
    }
}

/// Returns what must be read to resolve names; nothing where numbers or nothing were written.
#[must_use]
pub fn reads(owner: Option<&Name>, group: Option<&Name>) -> Vec<Read> {
    let named = |name: Option<&Name>| name.is_some_and(|name| name.0.parse::<u32>().is_err());
    let mut reads = vec![];
    if named(owner) {
        reads.push(Read::content(AbsPath::known("/etc/passwd")));
    }
    if named(group) {
        reads.push(Read::content(AbsPath::known("/etc/group")));
    }
    reads
}

/// Returns the numbers of a user and a group, `None` where nothing was written.
///
/// # Errors
/// [`Cannot::Refused`] where the host has no such account.
pub fn resolve(seen: &Seen, owner: Option<&Name>, group: Option<&Name>) -> Result<(Option<u32>, Option<u32>), Cannot> {
    let users = named(seen, owner, "/etc/passwd")?;
    let groups = named(seen, group, "/etc/group")?;
    let accounts = Accounts::parse(users, groups);
    let missing =
        |what: &str, name: &Name, file: &str| Cannot::Refused(format!("there is no {what} `{}` in {file}", name.0));
    let uid = owner.map(|name| accounts.uid(&name.0).ok_or_else(|| missing("user", name, "/etc/passwd")));
    let gid = group.map(|name| accounts.gid(&name.0).ok_or_else(|| missing("group", name, "/etc/group")));
    Ok((uid.transpose()?, gid.transpose()?))
}

/// Returns the text of an account file if a name must be looked up in it.
fn named<'a>(seen: &Seen<'a>, name: Option<&Name>, file: &str) -> Result<&'a [u8], Cannot> {
    if name.is_none_or(|name| name.0.parse::<u32>().is_ok()) {
        return Ok(&[]);
    }
    Ok(seen.content(&AbsPath::known(file))?.map_or(&[], |content| &content.0))
}
