//! Names of namespaces and tables: what all catalogs can hold.

use crate::error::{Error, ErrorKind, Result};
use crate::spec::{NamespaceIdent, TableIdent};

/// Parses `namespace.table`, with as many namespace levels as there are dots.
///
/// # Errors
/// `InvalidInput` without a namespace, or for a name that no catalog could hold.
pub fn parse_ident(text: &str) -> Result<TableIdent> {
    let Some((namespace, name)) = text.rsplit_once('.') else {
        return Err(Error::invalid(format!("`{text}` is not a table name"))
            .with_hint(format!("name a table with its namespace, such as `default.{text}`")));
    };
    let ident = TableIdent::new(parse_namespace(namespace)?, name.to_string());
    check_ident(&ident)?;
    Ok(ident)
}

/// Parses a namespace: levels between dots.
///
/// # Errors
/// `InvalidInput` for a level that no catalog could hold.
pub fn parse_namespace(text: &str) -> Result<NamespaceIdent> {
    let namespace = NamespaceIdent::from_strs(text.split('.'))?;
    check_namespace(&namespace)?;
    Ok(namespace)
}

pub(super) fn check_ident(ident: &TableIdent) -> Result<()> {
    check_namespace(ident.namespace())?;
    check_part("table name", ident.name())
}

pub(super) fn check_namespace(namespace: &NamespaceIdent) -> Result<()> {
    if namespace.is_empty() {
        return Err(Error::invalid("a namespace needs at least one level"));
    }
    namespace.iter().try_for_each(|level| check_part("namespace", level))
}

/// Parts become folder names and are joined by dots, so neither may occur in them.
fn check_part(what: &str, part: &str) -> Result<()> {
    let reason = if part.is_empty() {
        "is empty"
    } else if part.contains('.') {
        "contains a dot"
    } else if part.contains(['/', '\\']) || part.chars().any(char::is_control) {
        "contains a slash or a control character"
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("the {what} `{}` {reason}", part.escape_debug()))
        .with_hint("use letters, digits, `_` and `-`"))
}

/// The default folder of a table below `root`.
pub(super) fn table_folder(root: &str, ident: &TableIdent) -> String {
    format!("{}/{}", namespace_folder(root, ident.namespace()), ident.name())
}

/// The folder of a namespace below `root`.
pub(super) fn namespace_folder(root: &str, namespace: &NamespaceIdent) -> String {
    let levels: Vec<&str> = namespace.iter().map(String::as_str).collect();
    format!("{}/{}", root.trim_end_matches('/'), levels.join("/"))
}

pub(super) fn no_table(ident: &TableIdent) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no table `{ident}`"))
        .with_hint("list the tables that there are: `meltwater ls`")
}

pub(super) fn no_namespace(namespace: &NamespaceIdent) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no namespace `{namespace}`"))
}

pub(super) fn table_exists(ident: &TableIdent) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("the table `{ident}` exists already"))
        .with_hint("choose another name, or drop the table first")
}

pub(super) fn namespace_exists(namespace: &NamespaceIdent) -> Error {
    Error::new(ErrorKind::AlreadyExists, format!("the namespace `{namespace}` exists already"))
}

pub(super) fn namespace_in_use(namespace: &NamespaceIdent) -> Error {
    Error::invalid(format!("the namespace `{namespace}` is not empty"))
        .with_hint("drop or rename its tables and namespaces first")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_name_has_a_namespace_and_no_odd_parts() {
        assert_eq!(parse_ident("a.b.t").unwrap().to_string(), "a.b.t");
        for bad in ["t", ".t", "a.", "a..t", "a/b.t", "a.\\t", ""] {
            assert_eq!(parse_ident(bad).unwrap_err().kind(), ErrorKind::InvalidInput, "{bad}");
        }
    }
}
