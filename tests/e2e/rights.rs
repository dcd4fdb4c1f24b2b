//! The rights in deploy/ are those that are used: none is missing, none is left over.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use mooring_tests::lab::Lab;
use mooring_tests::lab::until::{secs, until};
use serde_json::Value;

use crate::Scenario;
use crate::cluster::Setup;
use crate::story::NGINX_LB;

pub(crate) const SCENARIOS: &[Scenario] =
    &[("rights::every_right_is_used_and_no_other_is_asked_for", every_right_is_used_and_no_other_is_asked_for)];

const RBAC: &str = include_str!("../../deploy/kustomize/base/rbac.yaml");
const POOLS: &str = include_str!("../../deploy/examples/pools.yaml");

/// A verb on a kind of object, in a namespace or, as in a ClusterRole, in any.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    verb: String,
    group: String,
    resource: String,
    namespace: Option<String>,
    /// Only of the object with this name.
    name: Option<String>,
}

impl Right {
    /// Whether somebody who has it may ask for this.
    fn covers(&self, asked: &Self) -> bool {
        let same = (&self.verb, &self.group, &self.resource) == (&asked.verb, &asked.group, &asked.resource);
        same && (self.namespace.is_none() || self.namespace == asked.namespace) && (self.name.is_none() || self.name == asked.name)
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().filter_map(text).collect()
}

/// The rights that a manifest grants.
fn granted(manifest: &str) -> Result<BTreeSet<Right>> {
    let mut granted = BTreeSet::new();
    for document in manifest.split("\n---\n") {
        let object: Value = serde_saphyr::from_str(document)?;
        for rule in object["rules"].as_array().into_iter().flatten() {
            let names: Vec<Option<String>> = match rule.get("resourceNames") {
                Some(names) => texts(names).into_iter().map(Some).collect(),
                None => vec![None],
            };
            for (verb, group) in
                texts(&rule["verbs"]).iter().flat_map(|verb| texts(&rule["apiGroups"]).into_iter().map(move |group| (verb, group)))
            {
                for (resource, name) in texts(&rule["resources"]).iter().flat_map(|resource| names.iter().map(move |name| (resource, name)))
                {
                    let namespace = text(&object["metadata"]["namespace"]);
                    granted.insert(Right {
                        verb: verb.clone(),
                        group: group.clone(),
                        resource: resource.clone(),
                        namespace,
                        name: name.clone(),
                    });
                }
            }
        }
    }
    Ok(granted)
}

/// What a request asked for; none if it was for no object, as `/readyz` is, which whoever is known may read.
fn asked(event: &Value) -> Option<Right> {
    let object = event.get("objectRef")?;
    let resource = text(&object["resource"])?;
    let resource = text(&object["subresource"]).map_or_else(|| resource.clone(), |sub| format!("{resource}/{sub}"));
    let group = text(&object["apiGroup"]).unwrap_or_default();
    Some(Right { verb: text(&event["verb"])?, group, resource, namespace: text(&object["namespace"]), name: text(&object["name"]) })
}

fn every_right_is_used_and_no_other_is_asked_for() -> Result<()> {
    let lab = Lab::of_three_nodes()?;
    let Setup { mut mooring, cluster, backends: _backends, .. } = Setup::new(&lab, true)?;
    let granted = granted(RBAC)?;
    ensure!(granted.len() > 20, "{granted:?}");
    cluster.apply(POOLS)?;
    cluster.apply(NGINX_LB)?;
    cluster.wait_external_ip("default", "nginx-lb", "172.17.200.100")?;
    let l2 = || -> Result<usize> {
        let list = cluster.get(&["servicel2statuses.metallb.io", "--namespace", "metallb-system"])?;
        Ok(list["items"].as_array().context("no list")?.len())
    };
    until(secs(10), "it is said who announces the Service", || {
        ensure!(l2()? == 1);
        Ok(())
    })?;
    cluster.kubectl(&["delete", "service", "nginx-lb"])?;
    until(secs(10), "it is said no more", || {
        ensure!(l2()? == 0);
        Ok(())
    })?;
    let verdicts = |count: usize| {
        until(secs(20), &format!("{count} verdicts on the configuration stand written"), || {
            let list = cluster.get(&["configurationstates.metallb.io", "--namespace", "metallb-system"])?;
            let valid = list["items"].as_array().into_iter().flatten().filter(|item| item["status"]["result"] == "Valid").count();
            ensure!(valid == count, "{list}");
            Ok(())
        })
    };
    verdicts(4)?;
    mooring.speaker("node-c")?.terminate()?;
    verdicts(3)?;
    ensure!(mooring.watcher.terminate()?.code() == Some(0));
    let events = cluster.audited("mooring-system", "mooring-watcher")?;
    let refused: Vec<&Value> = events.iter().filter(|event| event["responseStatus"]["code"] == 403).collect();
    ensure!(refused.is_empty(), "refused: {refused:?}");
    let asked: BTreeSet<Right> = events.iter().filter_map(asked).collect();
    let beyond: Vec<&Right> = asked.iter().filter(|asked| !granted.iter().any(|granted| granted.covers(asked))).collect();
    ensure!(beyond.is_empty(), "asked for and not granted by deploy/: {beyond:?}");
    let idle: Vec<&Right> = granted.iter().filter(|granted| !asked.iter().any(|asked| granted.covers(asked))).collect();
    ensure!(idle.is_empty(), "granted and never used: {idle:?}");
    // The other two have an account of their own and nothing to do with it: they may what any account may.
    let may = |account: &str| {
        let user = format!("system:serviceaccount:mooring-system:{account}");
        cluster.kubectl(&["auth", "can-i", "--list", "--no-headers", "--namespace", "mooring-system", "--as", &user])
    };
    for account in ["mooring-allocator", "mooring-speaker"] {
        ensure!(cluster.audited("mooring-system", account)?.is_empty(), "{account} has talked to the API server");
        ensure!(may(account)? == may("nobody")?, "{account} may: {}", may(account)?);
    }
    ensure!(may("mooring-watcher")? != may("nobody")?, "the watcher may nothing");
    Ok(())
}
