//! What must hold of any text as a users file: the body of a fuzz target, as a plain function.

use std::collections::BTreeSet;
use std::path::Path;

use tidings_broker::auth::{UserList, is_user_name};

/// Reading it neither panics nor loses a line: every user there is has one, with a name and a hash
/// that a login can verify; an error is one line, names file and line, and shows no password.
pub(crate) fn any_bytes(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let wanted: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    match UserList::parse(&text, Path::new("users")) {
        Ok(list) => {
            let names: Vec<&str> = list.names().collect();
            let expected: Vec<_> = wanted.iter().filter_map(|it| it.split(':').next()).collect();
            assert_eq!(names, expected);
            assert_eq!(
                names.iter().collect::<BTreeSet<_>>().len(),
                names.len(),
                "twice: {names:?}"
            );
            assert!(names.iter().all(|name| is_user_name(name)), "{names:?}");
            assert!(wanted.iter().all(|line| line.contains(":$argon2id$v=19$")), "{wanted:?}");
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("users") && !error.contains(['\n', '\r']), "{error}");
            assert!(!wanted.is_empty(), "nothing to understand, and not understood: {error}");
        }
    }
}
