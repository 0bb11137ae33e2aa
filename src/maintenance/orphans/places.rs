//! The candidates by their paths, and what the metadata says about each.
//!
//! A path that the metadata names in the listed store is no orphan. One that it names in another
//! store only is a mismatch, and the caller decides (MNT-32). Memory: one fingerprint per candidate.

use std::collections::HashMap;

use super::PrefixMismatch;
use crate::error::{Error, Result};
use crate::maintenance::paths::{fingerprint, split};

/// How many mismatches an error names.
const NAMED: usize = 5;

/// Candidates that nothing has named yet.
#[derive(Debug)]
pub(super) struct Places {
    root: String,
    equal: Vec<(String, String)>,
    /// True where another store is named.
    left: HashMap<u128, bool>,
    /// Mismatches as the metadata wrote them.
    mismatches: Vec<(u128, String)>,
}

impl Places {
    /// Candidates of the store `root`; pairs of `equal` roots count as one store.
    pub(super) fn new(root: &str, equal: &[(String, String)]) -> Self {
        let root_of = |text: &String| {
            let slash = if text.ends_with('/') { "" } else { "/" };
            split(&format!("{text}{slash}x")).map_or_else(|| text.clone(), |(root, _)| root)
        };
        Self {
            root: root.to_string(),
            equal: equal.iter().map(|(a, b)| (root_of(a), root_of(b))).collect(),
            left: HashMap::new(),
            mismatches: Vec::new(),
        }
    }

    /// Adds a candidate by its path in the store.
    pub(super) fn add(&mut self, path: &str) {
        self.left.insert(fingerprint(path), false);
    }

    /// Notes a location that the metadata names.
    ///
    /// # Errors
    /// `CorruptData` for one that names no file: it might mean any.
    pub(super) fn name(&mut self, location: &str) -> Result<()> {
        let Some((root, path)) = split(location) else {
            return Err(Error::corrupt("the metadata names a location that cannot be read")
                .with_context("location", location));
        };
        let print = fingerprint(&path);
        if root == self.root || self.is_equal(&root) {
            self.left.remove(&print);
        } else if let Some(elsewhere) = self.left.get_mut(&print) {
            *elsewhere = true;
            if self.mismatches.len() < 1000 {
                self.mismatches.push((print, location.to_string()));
            }
        }
        Ok(())
    }

    fn is_equal(&self, root: &str) -> bool {
        self.equal.iter().any(|(a, b)| {
            (a.as_str(), b.as_str()) == (root, &self.root)
                || (b.as_str(), a.as_str()) == (root, &self.root)
        })
    }

    /// The paths that are orphans.
    ///
    /// # Errors
    /// `InvalidInput` naming paths in two stores, if that is to be refused.
    pub(super) fn orphans(mut self, mode: PrefixMismatch) -> Result<HashMap<u128, bool>> {
        match mode {
            PrefixMismatch::Delete => {}
            PrefixMismatch::Ignore => self.left.retain(|_, elsewhere| !*elsewhere),
            PrefixMismatch::Error => {
                let still = |(print, _): &&(u128, String)| self.left.get(print) == Some(&true);
                let named: Vec<&str> =
                    self.mismatches.iter().filter(still).map(|(_, l)| l.as_str()).collect();
                if !named.is_empty() {
                    return Err(mismatch(&self.root, &named));
                }
            }
        }
        Ok(self.left)
    }
}

fn mismatch(root: &str, named: &[&str]) -> Error {
    let some = named.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    Error::invalid("the metadata names files of this folder in another store")
        .with_context("listed in", root)
        .with_context("files", some)
        .with_hint(
            "if both are one store, say so with `--equal-prefix`; otherwise choose \
             `--prefix-mismatch ignore` to keep such files or `delete` to remove them",
        )
}
