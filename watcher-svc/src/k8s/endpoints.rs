//! EndpointSlice → which nodes hold endpoints that can serve (MetalLB behaviour 6, steps 1 and 5e).
//!
//! A Service's slices are put together by the core. Addresses and ports of endpoints never matter here.

use mooring_proto::types::node::NodeName;
use mooring_proto::types::service::ServiceKey;
use serde_json::Value;

use super::fields::{Errors, Field};
use super::{ObjectRef, Parsed};

/// The label that says whose slice it is (Kubernetes' well-known labels).
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// One slice of a Service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointsView {
    /// The slice: `EndpointSlice namespace/name`.
    pub object: ObjectRef,
    /// The Service it belongs to; `None` if it says of none, which happens with slices made by hand.
    pub service: Option<ServiceKey>,
    /// Its endpoints, in order.
    pub endpoints: Vec<EndpointView>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointView {
    /// Whether it can serve: its condition `ready` is true or absent, or `serving` is true.
    pub serving: bool,
    /// Where it runs; `None` if it does not say.
    pub node: Option<NodeName>,
}

/// Reads an EndpointSlice.
///
/// # Errors
/// All that is wrong with it.
pub fn parse(value: &Value) -> Parsed<EndpointsView> {
    let object = ObjectRef::of("EndpointSlice", value);
    let mut errors = Errors::new(object.clone());
    let root = Field::root(value);
    let metadata = root.get("metadata").object(&mut errors);
    metadata.get("name").required_text(&mut errors);
    let labels = metadata.get("labels").texts(&mut errors);
    let service = labels.get(SERVICE_NAME_LABEL).and_then(|name| ServiceKey::new(&object.namespace, name).ok());
    let endpoints = root.get("endpoints").items(&mut errors).into_iter().map(|field| endpoint(&field, &mut errors)).collect();
    errors.finish(Some(EndpointsView { object, service, endpoints }))
}

fn endpoint(field: &Field<'_>, errors: &mut Errors) -> EndpointView {
    let conditions = field.get("conditions").object(errors);
    let ready = conditions.get("ready").boolean(errors).unwrap_or(true);
    let serving = conditions.get("serving").boolean(errors).unwrap_or(false);
    let name = field.get("nodeName");
    let named = name.text(errors).is_some_and(|text| !text.is_empty());
    EndpointView { serving: ready || serving, node: named.then(|| name.parse::<NodeName>(errors)).flatten() }
}

#[cfg(test)]
mod tests;
