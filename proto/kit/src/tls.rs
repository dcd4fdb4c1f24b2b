//! Mutual TLS from three PEM files, and channels to a gRPC server. The files are read once, at start.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Identity, ServerTlsConfig, Uri};

use crate::args::{CommonArgs, Endpoint, ListenAddress};

/// How long a connection attempt may take; the allocator is on the same LAN.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection over which nothing is heard for so long is asked whether it lives, and given up after as long again.
const KEEPALIVE: Duration = Duration::from_secs(5);

struct Files {
    identity: Identity,
    authority: Certificate,
}

fn files(args: &CommonArgs) -> anyhow::Result<Option<Files>> {
    let (Some(cert), Some(key), Some(ca)) = (&args.tls_cert, &args.tls_key, &args.tls_ca) else { return Ok(None) };
    let read = |flag: &str, path: &Path| std::fs::read(path).with_context(|| format!("could not read --{flag} {}", path.display()));
    let identity = Identity::from_pem(read("tls-cert", cert)?, read("tls-key", key)?);
    Ok(Some(Files { identity, authority: Certificate::from_pem(read("tls-ca", ca)?) }))
}

/// What a server needs: its certificate, and the authority that its clients' certificates must come from. `None` = plain text, as on a
/// Unix socket always.
///
/// # Errors
/// A file cannot be read.
pub fn server(args: &CommonArgs, listen: &ListenAddress) -> anyhow::Result<Option<ServerTlsConfig>> {
    if let ListenAddress::Unix(_) = listen {
        return Ok(None);
    }
    Ok(files(args)?.map(|files| ServerTlsConfig::new().identity(files.identity).client_ca_root(files.authority)))
}

/// A channel that connects when it is used, and again when it broke. A Unix socket's is plain text.
///
/// # Errors
/// A file cannot be read, or the certificate is no good.
pub fn channel(endpoint: &Endpoint, args: &CommonArgs) -> anyhow::Result<Channel> {
    match endpoint {
        Endpoint::Unix(path) => {
            let path = path.clone();
            let connect = move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            };
            Ok(tuned(tonic::transport::Endpoint::from_static("http://localhost")).connect_with_connector_lazy(tower::service_fn(connect)))
        }
        Endpoint::Uri(uri) => {
            let target = tuned(tonic::transport::Endpoint::from(uri.clone()));
            let target = match files(args)?.filter(|_| !endpoint.is_plain()) {
                Some(files) => target.tls_config(ClientTlsConfig::new().identity(files.identity).ca_certificate(files.authority))?,
                None => target,
            };
            Ok(target.connect_lazy())
        }
    }
}

fn tuned(endpoint: tonic::transport::Endpoint) -> tonic::transport::Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
}
