//! Locations: how the URIs in table metadata become a store and a path in it.

use std::collections::HashMap;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::{Error, Result};

/// A parsed location: the store's root (`file://`, `memory://`, `s3://bucket`) and a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    root: String,
    path: Path,
}

impl Location {
    /// Parses a URI or a local path. Paths are taken literally: `%20` is three characters.
    ///
    /// # Errors
    /// `InvalidInput` for relative paths, `..` and control characters.
    pub fn parse(location: &str) -> Result<Self> {
        let (root, path) = match location.split_once("://") {
            Some(("file", rest)) => {
                ("file://".to_string(), rest.strip_prefix("localhost").unwrap_or(rest))
            }
            Some((scheme @ "memory", rest)) => (format!("{scheme}://"), rest),
            Some((scheme, rest)) => {
                let (bucket, path) = rest.split_once('/').unwrap_or((rest, ""));
                (format!("{}://{bucket}", normal_scheme(scheme)), path)
            }
            None => match location.strip_prefix("file:") {
                Some(path) => ("file://".to_string(), path),
                None => ("file://".to_string(), location),
            },
        };
        if root == "file://" && !path.starts_with('/') {
            return Err(Error::invalid(format!("location `{location}` is not absolute"))
                .with_hint("write local locations as `/folder/file` or `file:///folder/file`"));
        }
        // A local path with doubled slashes is the same path; in a bucket it is another key.
        let single = (root == "file://" && path.contains("//")).then(|| single_slashes(path));
        let path = Path::parse(single.as_deref().unwrap_or(path)).map_err(|e| {
            Error::invalid(format!("location `{location}` is not a valid path")).with_source(e)
        })?;
        Ok(Self { root, path })
    }

    /// The store this location belongs to.
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The path inside the store.
    pub fn into_path(self) -> Path {
        self.path
    }

    /// A location in the one form that all its spellings share: `file:/a`, `/a` and `file:///a` are
    /// the same place, and so are `s3a://b/k` and `s3://b/k`.
    ///
    /// # Errors
    /// As [`Location::parse`].
    pub fn normal(location: &str) -> Result<String> {
        let location = Self::parse(location)?;
        Ok(Self::join(&location.root, location.path.as_ref()))
    }

    /// The location of a local folder, made absolute; errors call it `the folder of {what}`.
    ///
    /// # Errors
    /// `InvalidInput` if the path cannot be written as a location.
    pub fn of_folder(path: &std::path::Path, what: &str) -> Result<String> {
        let absolute = std::path::absolute(path).map_err(|e| {
            Error::invalid(format!("the folder of {what} has no absolute path")).with_source(e)
        })?;
        let text = absolute.to_str().ok_or_else(|| {
            Error::invalid(format!("the folder of {what} is not UTF-8"))
                .with_context("path", absolute.display())
        })?;
        Self::normal(text)
    }

    /// A location from a store's root and a path in it.
    pub fn join(root: &str, path: &str) -> String {
        format!("{}/{}", root.strip_suffix('/').filter(|r| !r.ends_with('/')).unwrap_or(root), path)
    }
}

/// A root as a person may write it, with or without a slash after the bucket.
pub(super) fn store_root(root: &str) -> &str {
    let bare = root.trim_end_matches('/');
    if bare.ends_with(':') { root.get(..bare.len() + 2).unwrap_or(root) } else { bare }
}

fn single_slashes(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

fn normal_scheme(scheme: &str) -> &str {
    match scheme {
        "s3a" | "s3n" => "s3",
        other => other,
    }
}

pub(super) fn open_store(
    location: &Location,
    properties: &HashMap<String, String>,
) -> Result<Arc<dyn ObjectStore>> {
    match location.root() {
        "file://" => {
            let sync = properties.get("local.sync").is_none_or(|v| v != "false");
            Ok(super::local::open(sync))
        }
        "memory://" => Ok(Arc::new(object_store::memory::InMemory::new())),
        #[cfg(feature = "s3")]
        root if root.starts_with("s3://") => {
            super::s3::open(root.trim_start_matches("s3://"), properties)
        }
        root if root.starts_with("s3://") => {
            Err(Error::unsupported(format!("this build has no store for `{root}`"))
                .with_hint("build with `--features s3`"))
        }
        other => Err(Error::unsupported(format!("no store is known for `{other}`")).with_hint(
            "known are file://, memory:// and s3://; if the files lie elsewhere than the table \
             says, map the prefix to where they are",
        )),
    }
}

/// Maps location prefixes as written in metadata to where the files really lie.
///
/// The longest matching prefix wins; a prefix matches whole path segments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PathMap {
    pairs: Vec<(String, String)>,
}

impl PathMap {
    /// Maps nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a prefix pair; slashes at the end do not matter.
    pub fn with(mut self, from: &str, to: &str) -> Self {
        let trim = |s: &str| s.trim_end_matches('/').to_string();
        self.pairs.push((trim(from), trim(to)));
        self.pairs.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        self
    }

    /// True when nothing is mapped.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The mapped location, or the location itself.
    pub fn apply(&self, location: &str) -> String {
        for (from, to) in &self.pairs {
            match location.strip_prefix(from.as_str()) {
                Some(rest) if rest.is_empty() || rest.starts_with('/') => {
                    return format!("{to}{rest}");
                }
                _ => {}
            }
        }
        location.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_map_takes_whole_segments_and_the_longest_prefix() {
        let map = PathMap::new().with("s3a://b/t", "/x/t").with("s3a://b", "/y/");
        assert_eq!(map.apply("s3a://b/t/data/1"), "/x/t/data/1");
        assert_eq!(map.apply("s3a://b/tt/1"), "/y/tt/1");
        assert_eq!(map.apply("s3a://bb/t"), "s3a://bb/t");
    }

    #[test]
    fn locations_split_into_root_and_path() {
        let root = |l: &str| Location::parse(l).map(|p| (p.root.clone(), p.path.to_string()));
        assert_eq!(root("file:///a/b").unwrap(), ("file://".into(), "a/b".into()));
        assert_eq!(root("/a/b").unwrap(), ("file://".into(), "a/b".into()));
        assert_eq!(root("s3a://k/a/b").unwrap(), ("s3://k".into(), "a/b".into()));
        assert_eq!(root("/a//b/").unwrap(), ("file://".into(), "a/b".into()));
        assert!(root("a/b").is_err());
        assert!(root("/a/../b").is_err());
    }
}
