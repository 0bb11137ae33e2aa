//! Serves what was measured to Prometheus over HTTP.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::registry::Registry;

/// Bytes of a request that are looked at.
const REQUEST_BYTES: usize = 8192;
/// How long a client may take to ask, and to read.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers `GET /metrics` on a thread of its own until it is dropped.
#[derive(Debug)]
pub struct PrometheusExporter {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
}

impl PrometheusExporter {
    /// Makes itself the process's recorder and listens at an address; port 0 takes any free one.
    /// To be called before tables and streams are opened.
    ///
    /// # Errors
    /// When the address cannot be listened at, and when the process has a recorder already.
    pub fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let registry = Registry::default();
        metrics::set_global_recorder(registry.clone()).map_err(|_| {
            io::Error::new(io::ErrorKind::AlreadyExists, "the process records metrics already")
        })?;
        let ended = Arc::new(AtomicBool::new(false));
        let stop = ended.clone();
        let thread = std::thread::Builder::new().name("meltwater-metrics".into());
        thread.spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                // A client that went away misses its answer, and nothing else happens.
                if let Err(error) = client.and_then(|client| answer(client, &registry)) {
                    tracing::debug!(%error, "a client of the metrics got lost");
                }
            }
        })?;
        Ok(Self { address, ended })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for PrometheusExporter {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes the thread; if that fails it ends with the process.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_millis(200));
    }
}

fn answer(mut client: TcpStream, registry: &Registry) -> io::Result<()> {
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|w| w == b"\r\n\r\n") && request.len() < REQUEST_BYTES {
        let read = client.read(&mut buffer)?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
    let asks = |path: &str| request.starts_with(format!("GET {path}").as_bytes());
    let (status, body) = match asks("/metrics ") || asks("/metrics?") {
        true => ("200 OK", registry.to_text()),
        false => ("404 Not Found", "the metrics are at /metrics\n".to_string()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::STREAM_ROWS;

    fn get(address: SocketAddr, path: &str) -> String {
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).unwrap();
        let mut text = String::new();
        client.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn prometheus_reads_what_was_measured() {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let exporter = PrometheusExporter::listen(any).unwrap();
        STREAM_ROWS.add(&["ns.exported", "s", "insert"], 41);
        STREAM_ROWS.add(&["ns.exported", "s", "insert"], 1);
        let text = get(exporter.address(), "/metrics");
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        let line =
            "meltwater_stream_rows_total{table=\"ns.exported\",stream=\"s\",kind=\"insert\"} 42\n";
        assert!(text.contains(line), "{text}");
        assert!(get(exporter.address(), "/").starts_with("HTTP/1.1 404"));
        let second = PrometheusExporter::listen(any);
        assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
