//! What Services get, case by case, through manifests in a directory: `compat.yaml` says what is applied and what there is afterwards.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use mooring_tests::lab::until::{secs, until};
use mooring_tests::lab::workloads::{allocator, watcher};
use mooring_tests::lab::{Lab, Process};
use serde_json::{Map, Value, json};

use crate::Scenario;

pub(crate) const SCENARIOS: &[Scenario] = &[("compat::services_get_what_metallb_gives_them", services_get_what_metallb_gives_them)];

/// The cases; their form is at the top.
const CASES: &str = include_str!("compat.yaml");

/// The namespace of Services that only show that everything before them is done.
const FENCE: &str = "zz-fence";

fn services_get_what_metallb_gives_them() -> Result<()> {
    let cases: Vec<Value> = serde_saphyr::from_str(CASES)?;
    ensure!(cases.len() > 40, "the table is cut off");
    let lab = Lab::of_three_nodes()?;
    let mut failed = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let name = case["case"].as_str().context("a case without a name")?;
        let steps = case["steps"].as_array().with_context(|| format!("{name}: no steps"))?;
        let mut pair = Pair::new(&lab.folder().join(format!("case-{number}")), case["fence"] != false)?;
        for (number, step) in steps.iter().enumerate() {
            if let Err(error) = pair.step(&lab, step) {
                failed.push(format!("{name}, step {}: {error:#}", number.saturating_add(1)));
                break;
            }
        }
    }
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    Ok(())
}

/// An allocator and a watcher on a folder of manifests; no node, so nothing is announced.
struct Pair {
    folder: PathBuf,
    running: Option<(Process, Process)>,
    /// All objects, by what they are.
    objects: BTreeMap<String, Value>,
    fences: Option<usize>,
    /// How many Events the steps before had.
    events: usize,
}

impl Pair {
    fn new(folder: &Path, fenced: bool) -> Result<Self> {
        fs::create_dir_all(folder.join("manifests"))?;
        let mut pair = Self { folder: folder.to_owned(), running: None, objects: BTreeMap::new(), fences: fenced.then_some(0), events: 0 };
        if fenced {
            let spec = json!({"addresses": ["203.0.113.0/24"], "autoAssign": false});
            pair.objects.insert("pool of fences".to_owned(), pool(FENCE, &spec));
        }
        Ok(pair)
    }

    /// Applies a step and looks whether what it says is so, and nothing else.
    fn step(&mut self, lab: &Lab, step: &Value) -> Result<()> {
        self.take_in(step)?;
        self.apply()?;
        if let Some((_, watcher)) = self.running.as_mut().filter(|_| step["restart"] == true) {
            watcher.kill_9()?;
            watcher.restart()?;
        }
        // The first step is there when the watcher starts, as its first full view.
        if self.running.is_none() {
            let mut allocator = allocator(&self.folder)?.args(["--pool-grace", "300ms"]).start(lab.host("control"))?;
            allocator.wait_for(&json!({"event": "listening", "server": "grpc"}))?;
            let source = format!("dir:{}", self.folder.join("manifests").display());
            let watcher = watcher()?.args(["--source", &source, "--status-dir"]).arg(self.folder.join("status"));
            self.running = Some((allocator, watcher.start(lab.host("control"))?));
        }
        let looked = until(secs(5), "it is so", || self.look(step));
        self.fence()?;
        // Whatever was wrong in time is wrong for good; and what is right must not have been so by haste.
        looked.and_then(|()| self.look(step)).with_context(|| self.seen())?;
        self.events = self.lines()?.len();
        Ok(())
    }

    fn take_in(&mut self, step: &Value) -> Result<()> {
        let empty = Map::new();
        for (kind, make) in [("pools", pool as fn(&str, &Value) -> Value), ("namespaces", namespace), ("services", service)] {
            for (name, value) in step[kind].as_object().unwrap_or(&empty) {
                self.put(format!("{kind} {name}"), (!value.is_null()).then(|| make(name, value)));
            }
        }
        if let Some(text) = step.get("config") {
            let metadata = json!({"name": "config", "namespace": "metallb-system"});
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"config": text}});
            self.put("config".to_owned(), (!text.is_null()).then_some(map));
        }
        let known = ["pools", "namespaces", "services", "config", "restart", "gives", "events"];
        let unknown = step.as_object().into_iter().flat_map(Map::keys).find(|key| !known.contains(&key.as_str()));
        ensure!(unknown.is_none(), "unknown key {unknown:?}");
        Ok(())
    }

    fn put(&mut self, key: String, object: Option<Value>) {
        match object {
            Some(object) => self.objects.insert(key, object),
            None => self.objects.remove(&key),
        };
    }

    /// All objects in one file, replaced whole, so that a step is seen at once.
    fn apply(&self) -> Result<()> {
        let text = self.objects.values().map(Value::to_string).collect::<Vec<_>>().join("\n");
        let (new, file) = (self.folder.join("manifests/.new"), self.folder.join("manifests/all.json"));
        fs::write(&new, text)?;
        Ok(fs::rename(new, file)?)
    }

    fn look(&self, step: &Value) -> Result<()> {
        for (name, wanted) in step["gives"].as_object().into_iter().flatten() {
            let has = self.has(name)?;
            // One that never had anything needs no file.
            ensure!(*wanted == has || (*wanted == "nothing" && has == "untouched"), "{name}: want {wanted}, has {has:?}");
        }
        let Some(wanted) = step.get("events").and_then(Value::as_array) else { return Ok(()) };
        let mut found = self.lines()?.split_off(self.events);
        for wanted in wanted.iter().filter_map(Value::as_str) {
            let is_it = |line: &String| wanted.strip_suffix('…').map_or(line == wanted, |start| line.starts_with(start));
            let at = found.iter().position(is_it).with_context(|| format!("no Event {wanted:?} among {found:?}"))?;
            found.remove(at);
        }
        ensure!(found.is_empty(), "Events that are not wanted: {found:?}");
        Ok(())
    }

    /// What a Service's status file says: `192.0.2.1 from p`, `nothing`, or `untouched` if there is none.
    fn has(&self, name: &str) -> Result<String> {
        let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
        let Ok(text) = fs::read_to_string(self.folder.join(format!("status/services/{namespace}_{name}.yaml"))) else {
            return Ok("untouched".to_owned());
        };
        let service: Value = serde_saphyr::from_str(&text)?;
        let ingress = service.pointer("/status/loadBalancer/ingress").and_then(Value::as_array).cloned().unwrap_or_default();
        let pool = service.pointer("/metadata/annotations/metallb.io~1ip-allocated-from-pool").and_then(Value::as_str);
        let addresses: Vec<&str> = ingress.iter().filter_map(|entry| entry["ip"].as_str()).collect();
        match (addresses.as_slice(), pool) {
            ([], None) => Ok("nothing".to_owned()),
            ([_, ..], Some(pool)) => Ok(format!("{} from {pool}", addresses.join(","))),
            _ => bail!("addresses and annotation do not fit: {service}"),
        }
    }

    /// All Events so far, but of fences, as text.
    fn lines(&self) -> Result<Vec<String>> {
        let text = fs::read_to_string(self.folder.join("status/events.jsonl")).unwrap_or_default();
        let events: Vec<Value> = text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
        let line = |event: &Value| {
            let of = |key: &str| event["regarding"][key].as_str().unwrap_or_default().to_owned();
            let (kind, namespace, name) = (of("kind"), of("namespace"), of("name"));
            let who = match (kind.as_str(), namespace.as_str()) {
                ("Service", "default") => name,
                ("Service", FENCE) => return None,
                ("Service", namespace) => format!("{namespace}/{name}"),
                (kind, _) => format!("{kind} {name}"),
            };
            Some(format!("{who} {} {}", event["reason"].as_str()?, event["note"].as_str()?))
        };
        Ok(events.iter().filter_map(line).collect())
    }

    /// Waits until one more Service, made after all others, is served.
    fn fence(&mut self) -> Result<()> {
        let Some(fence) = &mut self.fences else { return Ok(()) };
        *fence = fence.saturating_add(1);
        let name = format!("{FENCE}/s{fence}");
        self.put(format!("services {name}"), Some(service(&name, &json!({"pool": FENCE}))));
        self.apply()?;
        until(secs(5), "the fence is served", || {
            let has = self.has(&name)?;
            ensure!(has.starts_with("203.0.113."), "{has}");
            Ok(())
        })
    }

    fn seen(&self) -> String {
        format!("Events: {:#?}", self.lines().unwrap_or_default())
    }
}

fn pool(name: &str, value: &Value) -> Value {
    let spec = match (value.is_string(), value.is_array()) {
        (true, _) => json!({"addresses": [value]}),
        (_, true) => json!({"addresses": value}),
        (false, false) => value.clone(),
    };
    let metadata = json!({"name": name, "namespace": "metallb-system"});
    json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": metadata, "spec": spec})
}

fn namespace(name: &str, labels: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
}

fn service(name: &str, value: &Value) -> Value {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    let mut annotations = value["annotations"].as_object().cloned().unwrap_or_default();
    let mut spec = Map::from_iter([("type".to_owned(), json!("LoadBalancer"))]);
    for (key, annotation) in
        [("pool", "metallb.io/address-pool"), ("ips", "metallb.io/loadBalancerIPs"), ("share", "metallb.io/allow-shared-ip")]
    {
        annotations.extend(value.get(key).map(|value| (annotation.to_owned(), value.clone())));
    }
    for (key, field) in [("ip", "loadBalancerIP"), ("families", "ipFamilies"), ("policy", "ipFamilyPolicy")] {
        spec.extend(value.get(key).map(|value| (field.to_owned(), value.clone())));
    }
    if let Some(selector) = value.get("local") {
        spec.extend([("externalTrafficPolicy".to_owned(), json!("Local")), ("selector".to_owned(), selector.clone())]);
    }
    let ports = value["ports"].as_array().cloned().unwrap_or_else(|| vec![json!(80)]);
    let port = |port: &Value| match port.as_str().and_then(|text| text.split_once('/')) {
        Some((protocol, number)) => {
            json!({"name": format!("{protocol}-{number}"), "protocol": protocol, "port": number.parse::<u16>().ok()})
        }
        None => json!({"port": port}),
    };
    spec.insert("ports".to_owned(), ports.iter().map(port).collect());
    spec.extend(value["spec"].as_object().cloned().unwrap_or_default());
    let has: Vec<Value> = value["has"].as_array().into_iter().flatten().map(|ip| json!({"ip": ip})).collect();
    let metadata = json!({"name": name, "namespace": namespace, "labels": value["labels"], "annotations": annotations});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec, "status": {"loadBalancer": {"ingress": has}}})
}
