//! Which engine answers a call: the one whose leases Services hold or, for a call that is marked, the one that shows what would be.
//!
//! This is the only place where it is chosen; the services behind it know one engine each.

use std::convert::Infallible;
use std::task::{Context, Poll};

use mooring_proto::convert::Violations;
use mooring_proto::shadow;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

/// A service twice: as it is, and its shadow if it has one.
#[derive(Clone, Debug)]
pub(crate) struct Shadowed<S> {
    real: S,
    shadow: Option<S>,
}

impl<S> Shadowed<S> {
    /// Sends marked calls to `shadow`; without one they are refused.
    pub(crate) fn new(real: S, shadow: Option<S>) -> Self {
        Self { real, shadow }
    }
}

impl<S: NamedService> NamedService for Shadowed<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Shadowed<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + NamedService,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        match (self.real.poll_ready(context), self.shadow.as_mut().map(|shadow| shadow.poll_ready(context))) {
            (Poll::Ready(_), None | Some(Poll::Ready(_))) => Poll::Ready(Ok(())),
            (Poll::Pending, _) | (_, Some(Poll::Pending)) => Poll::Pending,
        }
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match (is_marked(request.headers()), &mut self.shadow) {
            (Ok(false), _) => Box::pin(self.real.call(request)),
            (Ok(true), Some(shadow)) => {
                let answer = shadow.call(request);
                Box::pin(async move {
                    let mut answer = answer.await?;
                    answer.headers_mut().insert(shadow::KEY, http::HeaderValue::from_static(shadow::YES));
                    Ok(answer)
                })
            }
            (Ok(true), None) => refused(format!("{} has no shadow", S::NAME)),
            (Err(found), _) => refused(format!("{found:?} is neither true nor false")),
        }
    }
}

/// Whether a call only asks what would be.
///
/// # Errors
/// It is marked by something that says neither yes nor no: sent to either engine it might do what was not meant.
fn is_marked(headers: &http::HeaderMap) -> Result<bool, String> {
    let mut marked = None;
    for value in headers.get_all(shadow::KEY) {
        let says = match value.as_bytes() {
            b"true" => true,
            b"false" => false,
            other => return Err(String::from_utf8_lossy(other).into_owned()),
        };
        if marked.is_some_and(|before| before != says) {
            return Err("true, false".to_owned());
        }
        marked = Some(says);
    }
    Ok(marked.unwrap_or(false))
}

fn refused(problem: String) -> BoxFuture<http::Response<Body>, Infallible> {
    let status = Status::from(Violations::one(format!("metadata {}", shadow::KEY), problem));
    Box::pin(async move { Ok(status.into_http()) })
}

#[cfg(test)]
mod tests;
