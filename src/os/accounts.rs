//! `/etc/passwd` and `/etc/group`: the numbers of names and the names of numbers (passwd(5), group(5)).
//!
//! A static program has no name service, and with `--root` the accounts are those of the tree; so only the files count.

/// The accounts of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: Vec<(String, u32)>,
    groups: Vec<(String, u32)>,
}

impl Accounts {
    /// Reads both files. Lines that are no accounts (comments, `+` lines of NIS, broken ones) are skipped as glibc does.
    #[must_use]
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        Self { users: numbers(passwd), groups: numbers(group) }
    }

    /// Returns the number of a user, given by name or number; `None` if there is no such name.
    #[must_use]
    pub fn uid(&self, user: &str) -> Option<u32> {
        id(&self.users, user)
    }

    /// Returns the number of a group, given by name or number; `None` if there is no such name.
    #[must_use]
    pub fn gid(&self, group: &str) -> Option<u32> {
        id(&self.groups, group)
    }

    /// Returns the name of a user; `None` if the number has none.
    #[must_use]
    pub fn user(&self, uid: u32) -> Option<&str> {
        name(&self.users, uid)
    }

    /// Returns the name of a group; `None` if the number has none.
    #[must_use]
    pub fn group(&self, gid: u32) -> Option<&str> {
        name(&self.groups, gid)
    }

    /// Returns the names of all users, for suggestions.
    pub fn user_names(&self) -> impl Iterator<Item = &str> {
        self.users.iter().map(|(name, _)| name.as_str())
    }

    /// Returns the names of all groups, for suggestions.
    pub fn group_names(&self) -> impl Iterator<Item = &str> {
        self.groups.iter().map(|(name, _)| name.as_str())
    }
}

/// Both files have the name in the first and the number in the third field.
fn numbers(content: &[u8]) -> Vec<(String, u32)> {
    let account = |line: &[u8]| {
        let line = std::str::from_utf8(line).ok()?.trim_end_matches('\r');
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with(['#', '+', '-']))?;
        Some((name.to_owned(), number(fields.nth(1)?)?))
    };
    content.split(|byte| *byte == b'\n').filter_map(account).collect()
}

/// 4294967295 is no account but "no change" (chown(2)).
fn number(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten().filter(|id| *id != u32::MAX)
}

fn id(accounts: &[(String, u32)], wanted: &str) -> Option<u32> {
    accounts.iter().find(|(name, _)| name == wanted).map(|(_, id)| *id).or_else(|| number(wanted))
}

fn name(accounts: &[(String, u32)], wanted: u32) -> Option<&str> {
    accounts.iter().find(|(_, id)| *id == wanted).map(|(name, _)| name.as_str())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_and_numbers() {
        let passwd =
            b"root:x:0:0:root:/root:/bin/bash\n# c\nqemu:x:107:36:qemu user:/:/sbin/nologin\n\ntoor:x:0:0::/:\n\
            broken:x\nbad:x:-1:0\nlatin\xe9:x:7:7\n+::::::\nnobody:x:65534:65534:nobody:/:/x\r\n";
        let accounts = Accounts::parse(passwd, b"root:x:0:\nkvm:x:36:qemu,root\nkvm:x:99:\n");
        for (user, uid) in [
            ("root", Some(0)),
            ("qemu", Some(107)),
            ("1000", Some(1000)),
            ("nobody", Some(65534)),
            ("bad", None),
            ("+", None),
            ("", None),
            ("4294967295", None),
        ] {
            assert_eq!(accounts.uid(user), uid, "{user}");
        }
        assert_eq!(accounts.gid("kvm"), Some(36));
        assert_eq!((accounts.user(0), accounts.user(42)), (Some("root"), None));
        assert_eq!(accounts.group(36), Some("kvm"));
        assert_eq!(accounts.user_names().collect::<Vec<_>>(), ["root", "qemu", "toor", "nobody"]);
    }

    proptest! {
        #[test]
        fn no_input_panics(content: Vec<u8>, name: String, id: u32) {
            let accounts = Accounts::parse(&content, &content);
            let _ = accounts.uid(&name);
            let _ = accounts.group(id);
        }
    }
}
