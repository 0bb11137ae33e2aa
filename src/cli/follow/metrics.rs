//! `--metrics`: numbers for Prometheus.

use std::net::SocketAddr;

use crate::cli::failure::Outcome;
use crate::cli::terminal::say;
use crate::error::{Error, ErrorKind};
use crate::measure::PrometheusExporter;

/// Serves metrics while the answer is kept.
pub(super) fn serve(address: SocketAddr) -> Outcome<PrometheusExporter> {
    let exporter = PrometheusExporter::listen(address).map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("metrics cannot be served at {address}"))
            .with_source(error)
            .with_hint("choose another address or port")
    })?;
    say(format!("metrics are at http://{}/metrics", exporter.address()));
    Ok(exporter)
}
