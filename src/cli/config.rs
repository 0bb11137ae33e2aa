//! Where the catalog is: flag over `MELTWATER_CATALOG` over `meltwater.toml` over the default.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::failure::Outcome;
use crate::error::Error;

/// The catalog that is made when nobody names one.
pub(super) const DEFAULT_CATALOG: &str = "sqlite:warehouse/catalog.db?warehouse=warehouse";

const FILE_NAME: &str = "meltwater.toml";

/// The contents of `meltwater.toml`, found in the working folder or the nearest one above it.
///
/// ```toml
/// catalog = "sqlite:warehouse/catalog.db?warehouse=warehouse"
/// output = "table"
/// [properties]                 # handed to the catalog and its storage
/// "s3.endpoint" = "http://127.0.0.1:9000"
/// [maintain]                   # settings of `maintain`, below table properties
/// compact.files = 50
/// ```
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The catalog's URI.
    pub(super) catalog: Option<String>,
    /// `table` or `json`.
    pub(super) output: Option<String>,
    /// Properties of catalog and storage.
    #[serde(default)]
    pub(super) properties: HashMap<String, String>,
    /// Settings of maintenance, as deep as their names have dots.
    #[serde(default)]
    maintain: toml::Table,
}

impl Config {
    /// Reads the nearest `meltwater.toml` at or above `folder`; none is an empty one.
    pub(super) fn find(folder: &Path) -> Outcome<Self> {
        let Some(path) = folder.ancestors().map(|f| f.join(FILE_NAME)).find(|p| p.is_file()) else {
            return Ok(Self::default());
        };
        Self::read(&path)
    }

    /// Names and values of `[maintain]`, such as `compact.files` and `50`.
    pub(super) fn maintain(&self) -> Vec<(String, String)> {
        let mut settings = Vec::new();
        flatten("", &self.maintain, &mut settings);
        settings
    }

    fn read(path: &PathBuf) -> Outcome<Self> {
        let text = std::fs::read_to_string(path)?;
        toml::from_str(&text).map_err(|error| {
            Error::invalid(format!("`{}` cannot be read", path.display()))
                .with_source(error)
                .with_hint(
                    "it knows `catalog`, `output` and the tables `[properties]`, `[maintain]`",
                )
                .into()
        })
    }
}

fn flatten(prefix: &str, table: &toml::Table, settings: &mut Vec<(String, String)>) {
    for (name, value) in table {
        let name = format!("{prefix}{name}");
        match value {
            toml::Value::Table(inner) => flatten(&format!("{name}."), inner, settings),
            toml::Value::String(text) => settings.push((name, text.clone())),
            other => settings.push((name, other.to_string())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_file_above_is_read() {
        let root = tempfile::tempdir().unwrap();
        let below = root.path().join("a/b");
        std::fs::create_dir_all(&below).unwrap();
        std::fs::write(
            root.path().join(FILE_NAME),
            "catalog = \"file:w\"\n[properties]\nk = \"v\"",
        )
        .unwrap();
        let config = Config::find(&below).unwrap();
        assert_eq!(config.catalog.as_deref(), Some("file:w"));
        assert_eq!(config.properties["k"], "v");
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join(FILE_NAME), "catalogue = \"x\"").unwrap();
        let failure = Config::find(root.path()).unwrap_err();
        assert!(failure.message(false).contains("catalogue"), "{}", failure.message(false));
    }
}
