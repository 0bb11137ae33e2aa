//! Which tables of a catalog are meant.

use crate::catalog::{Catalog, parse_ident};
use crate::error::Result;
use crate::maintenance::orphans::all_tables;
use crate::spec::TableIdent;

/// The tables that match a pattern, each once, in order. Names without `*` are not looked up: a
/// table that is not there is told when it is loaded.
///
/// # Errors
/// `InvalidInput` for what is neither a name nor a pattern; what listing the catalog gives.
pub(super) async fn matching(
    catalog: &dyn Catalog,
    patterns: &[String],
) -> Result<Vec<TableIdent>> {
    let mut found = Vec::new();
    let mut globs = Vec::new();
    for pattern in patterns {
        match (pattern.contains('*'), pattern.contains('.')) {
            (false, true) => found.push(parse_ident(pattern)?),
            (false, false) => globs.push(format!("{pattern}.*")),
            (true, _) => globs.push(pattern.clone()),
        }
    }
    if !globs.is_empty() {
        let all = all_tables(catalog).await?;
        let is_meant = |ident: &TableIdent| {
            let name = ident.to_string();
            globs.iter().any(|glob| matches(glob, &name))
        };
        found.extend(all.into_iter().filter(is_meant));
    }
    found.sort_by_key(ToString::to_string);
    found.dedup();
    Ok(found)
}

/// Whether a name matches a pattern in which `*` stands for any characters.
fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, wanted) in [
            ("a.b", "a.b", true),
            ("a.b", "a.bc", false),
            ("*", "a.b", true),
            ("a.*", "a.b", true),
            ("a.*", "ab.c", false),
            ("*.orders", "x.y.orders", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abde", false),
            ("*a*a", "a", false),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
