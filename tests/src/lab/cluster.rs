//! A real control plane on `control`: etcd and kube-apiserver, kubectl for people, kube-proxy on each node, and the controllers that
//! follow Pods.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::{Value, json};

use super::{Host, Lab, Process, Program, output, until};

/// Where the API server serves the LAN.
const SERVER: &str = "https://172.17.0.2:6443";

/// How long the API server may take to be ready on a busy machine.
const START: Duration = Duration::from_secs(60);

/// A control plane.
#[derive(Debug)]
pub struct Cluster {
    tools: Tools,
    folder: PathBuf,
    /// etcd.
    pub etcd: Process,
    /// kube-apiserver.
    pub apiserver: Process,
    others: Vec<Process>,
}

/// What a folder named by `KUBEBUILDER_ASSETS` has.
const ASSETS: [&str; 3] = ["etcd", "kube-apiserver", "kubectl"];

/// Where the programs are.
#[derive(Clone, Debug)]
struct Tools {
    built: PathBuf,
    assets: Option<PathBuf>,
}

impl Tools {
    fn find() -> Result<Self> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tools/build");
        let built = output(script.to_str().context("a path that is not text")?, &[])?;
        Ok(Self { built: built.trim().into(), assets: std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from) })
    }

    /// `KUBEBUILDER_ASSETS`, if set, has the usual three, and then they are never taken from elsewhere.
    fn path(&self, name: &str) -> Result<PathBuf> {
        let (folder, remedy) = match self.assets.as_ref().filter(|_| ASSETS.contains(&name)) {
            Some(assets) => (assets, "KUBEBUILDER_ASSETS names this folder"),
            None => (&self.built, "run tests/tools/build"),
        };
        let path = folder.join(name);
        ensure!(path.is_file(), "{} is missing: {remedy}", path.display());
        Ok(path)
    }

    fn program(&self, name: &str) -> Result<Program> {
        Ok(Program::new(self.path(name)?))
    }
}

/// A user of the API server: the token, the name and the groups.
const USERS: [(&str, &str, &str); 2] = [("admin", "admin", "system:masters"), ("proxy", "system:kube-proxy", "system:authenticated")];

impl Cluster {
    /// Starts etcd and the API server and waits until it is ready.
    ///
    /// # Errors
    /// A program is missing, or does not start.
    pub fn start(lab: &Lab) -> Result<Self> {
        let tools = Tools::find()?;
        let folder = lab.folder().join("cluster");
        fs::create_dir_all(&folder)?;
        certificates(&folder)?;
        fs::write(folder.join("audit-policy.yaml"), audit_policy().to_string())?;
        let tokens = USERS.iter().enumerate().map(|(id, (token, name, groups))| format!("{token},{name},{id},\"{groups}\"\n"));
        fs::write(folder.join("tokens.csv"), tokens.collect::<String>())?;
        for (token, _, _) in USERS {
            fs::write(folder.join(format!("{token}.kubeconfig")), kubeconfig(&folder, token))?;
        }
        let control = lab.host("control");
        let etcd = etcd(&tools, &folder)?.start(control)?;
        let apiserver = apiserver(&tools, &folder)?.start(control)?;
        let cluster = Self { tools, folder, etcd, apiserver, others: Vec::new() };
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// Waits until the API server says that it is ready.
    ///
    /// # Errors
    /// It does not in time.
    pub fn wait_ready(&self) -> Result<()> {
        let ready = until(START, "the API server is ready", || self.kubectl(&["get", "--raw", "/readyz"]));
        ready.with_context(|| format!("etcd: {} apiserver: {}", tail(&self.etcd.stderr()), tail(&self.apiserver.stderr())))?;
        until(START, "the default namespace exists", || self.kubectl(&["get", "namespace", "default", "kube-system"])).map(|_| ())
    }

    /// A kubeconfig for one of the users: `admin` or `proxy`.
    #[must_use]
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        self.folder.join(format!("{user}.kubeconfig"))
    }

    /// A kubeconfig with a token of a ServiceAccount, as a pod of it would have.
    ///
    /// # Errors
    /// There is no such account.
    pub fn account_kubeconfig(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let token = self.kubectl(&["create", "token", account, "--namespace", namespace])?;
        let path = self.kubeconfig(account);
        fs::write(&path, kubeconfig(&self.folder, token.trim()))?;
        Ok(path)
    }

    /// What a ServiceAccount has asked the API server for so far, an `audit.k8s.io/v1` Event each.
    ///
    /// # Errors
    /// There is no audit log.
    pub fn audited(&self, namespace: &str, account: &str) -> Result<Vec<Value>> {
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let text = fs::read_to_string(self.folder.join("audit.log"))?;
        // The last line may be half-written.
        let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        Ok(events.filter(|event| event.pointer("/user/username").is_some_and(|name| *name == user)).collect())
    }

    /// Runs kubectl as the administrator.
    ///
    /// # Errors
    /// It ends with another exit code than 0: its output is in the error.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let kubectl = self.tools.path("kubectl")?;
        let config = self.kubeconfig("admin");
        let all = ["--kubeconfig", config.to_str().context("a path that is not text")?, "--request-timeout=10s"];
        super::output_of(std::process::Command::new(kubectl).args(all).args(arguments).env("HOME", &self.folder))
    }

    /// Runs a piece of bash in a folder as the administrator would, with kubectl in the search path.
    ///
    /// # Errors
    /// One of its commands fails: the output is in the error.
    pub fn shell(&self, folder: &Path, script: &str) -> Result<String> {
        let kubectl = self.tools.path("kubectl")?;
        let beside = kubectl.parent().context("no folder")?;
        let mut bash = std::process::Command::new("bash");
        let script = format!("PATH={}:$PATH\n{script}", beside.display());
        bash.args(["-euo", "pipefail", "-c", &script]).current_dir(folder);
        super::output_of(bash.env("KUBECONFIG", self.kubeconfig("admin")).env("HOME", &self.folder))
    }

    /// Applies a manifest, as `kubectl apply -f` with strict validation.
    ///
    /// # Errors
    /// The API server refuses it.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
        file.as_file().write_all(manifest.as_bytes())?;
        self.kubectl(&["apply", "--validate=strict", "-f", file.path().to_str().context("a path that is not text")?])
    }

    /// Asks the API server whether it would take a manifest.
    ///
    /// # Errors
    /// It refuses it.
    pub fn dry_run(&self, manifest: &str) -> Result<String> {
        let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
        file.as_file().write_all(manifest.as_bytes())?;
        let path = file.path().to_str().context("a path that is not text")?;
        self.kubectl(&["apply", "--validate=ignore", "--dry-run=server", "-f", path])
    }

    /// Applies one of the project's kustomizations, as `kubectl apply -k` with strict validation.
    ///
    /// # Errors
    /// The API server refuses an object of it.
    pub fn apply_kustomization(&self, folder: &str) -> Result<String> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize").join(folder);
        self.kubectl(&["apply", "--validate=strict", "-k", self::path(&path)?])
    }

    /// An object as JSON, for example `["service", "web"]`.
    ///
    /// # Errors
    /// There is none.
    pub fn get(&self, arguments: &[&str]) -> Result<Value> {
        Ok(serde_json::from_str(&self.kubectl(&[&["get", "-o", "json"], arguments].concat())?)?)
    }

    /// The addresses in a Service's status.
    ///
    /// # Errors
    /// There is no such Service.
    pub fn external_ips(&self, namespace: &str, name: &str) -> Result<Vec<String>> {
        let service = self.get(&["service", name, "--namespace", namespace])?;
        let ingress = service.pointer("/status/loadBalancer/ingress").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(ingress.iter().filter_map(|entry| entry.get("ip")?.as_str()).map(str::to_owned).collect())
    }

    /// Waits until a Service has just this address in its status.
    ///
    /// # Errors
    /// It has not within 20 s.
    pub fn wait_external_ip(&self, namespace: &str, name: &str, address: &str) -> Result<()> {
        until(Duration::from_secs(20), &format!("{namespace}/{name} has {address}"), || {
            let has = self.external_ips(namespace, name)?;
            ensure!(has == [address], "{namespace}/{name} has {has:?}");
            Ok(())
        })
    }

    /// Registers a LAN host as a ready node.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn add_node(&self, host: &Host) -> Result<()> {
        let name = host.name();
        let node = json!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"}},
        });
        self.apply(&node.to_string())?;
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": host.address()}],
            "conditions": [{"type": "Ready", "status": "True", "reason": "Lab", "message": "made by the lab"}],
        }});
        self.kubectl(&["patch", "node", name, "--subresource=status", "--type=merge", "--patch", &status.to_string()]).map(|_| ())
    }

    /// Registers a process on a node as a ready Pod; its address is the node's.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn add_pod(&self, namespace: &str, name: &str, labels: &Value, node: &Host) -> Result<()> {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "spec": {"nodeName": node.name(), "hostNetwork": true, "containers": [{"name": "main", "image": "none.invalid/none"}]},
        });
        self.apply(&pod.to_string())?;
        self.set_pod_ready(namespace, name, node, true)
    }

    /// Says whether a Pod is ready, as its kubelet would.
    ///
    /// # Errors
    /// The API server refuses.
    pub fn set_pod_ready(&self, namespace: &str, name: &str, node: &Host, ready: bool) -> Result<()> {
        let ready = if ready { "True" } else { "False" };
        let status = json!({"status": {
            "phase": "Running", "hostIP": node.address(), "podIP": node.address(), "podIPs": [{"ip": node.address()}],
            "conditions": [{"type": "Ready", "status": ready}, {"type": "ContainersReady", "status": ready}],
        }});
        let patch = status.to_string();
        let arguments = ["patch", "pod", name, "--namespace", namespace, "--subresource=status", "--type=merge", "--patch", &patch];
        self.kubectl(&arguments).map(|_| ())
    }

    /// Starts the controllers that make EndpointSlices of Pods.
    ///
    /// # Errors
    /// The program is missing.
    pub fn start_controllers(&mut self, control: &Host) -> Result<()> {
        let controllers = "endpointslice-controller,namespace-controller,serviceaccount-controller,garbage-collector-controller";
        let program = self
            .tools
            .program("kube-controller-manager")?
            .arg("--kubeconfig")
            .arg(self.kubeconfig("admin"))
            .args(["--leader-elect=false", "--bind-address=127.0.0.1", "--endpointslice-updates-batch-period=0s"])
            .arg(format!("--controllers={controllers}"));
        self.others.push(program.start(control)?);
        Ok(())
    }

    /// Starts kube-proxy on a node and waits until it has written its rules.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_proxy(&mut self, node: &Host) -> Result<()> {
        let config = json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration", "mode": "nftables",
            "hostnameOverride": node.name(), "clientConnection": {"kubeconfig": self.kubeconfig("proxy")}, "bindAddress": "0.0.0.0",
            "healthzBindAddress": "0.0.0.0:10256", "metricsBindAddress": "127.0.0.1:10249", "clusterCIDR": "10.244.0.0/16",
            "detectLocalMode": "ClusterCIDR", "nodePortAddresses": ["primary"], "oomScoreAdj": 0,
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
            "nftables": {"syncPeriod": "30s", "minSyncPeriod": "100ms"},
        });
        let path = self.folder.join(format!("proxy-{}.yaml", node.name()));
        fs::write(&path, config.to_string())?;
        self.others.push(self.tools.program("kube-proxy")?.arg("--config").arg(path).start(node)?);
        until(Duration::from_secs(60), &format!("kube-proxy on {} is ready", node.name()), || node.curl("http://127.0.0.1:10256/healthz"))?;
        Ok(())
    }

    /// Copies etcd's data, as of now, to restore later. etcd is stopped while it is copied.
    ///
    /// # Errors
    /// etcd does not stop, or not start again.
    pub fn save_etcd(&mut self) -> Result<()> {
        self.etcd.kill_9()?;
        let (data, saved) = (self.folder.join("etcd"), self.folder.join("etcd.saved"));
        super::run("cp", &["-a", path(&data)?, path(&saved)?])?;
        self.etcd.restart()?;
        self.wait_ready()
    }

    /// Puts the saved data back, as an operator restores a backup: API server and etcd are stopped and started again.
    ///
    /// # Errors
    /// One of them does not start again.
    pub fn restore_etcd(&mut self) -> Result<()> {
        self.apiserver.kill_9()?;
        self.etcd.kill_9()?;
        let (data, saved) = (self.folder.join("etcd"), self.folder.join("etcd.saved"));
        fs::remove_dir_all(&data)?;
        super::run("cp", &["-a", path(&saved)?, path(&data)?])?;
        self.etcd.restart()?;
        self.apiserver.restart()?;
        self.wait_ready()
    }

    /// Runs grpcurl from where this program is.
    ///
    /// # Errors
    /// It ends with another exit code than 0: its output is in the error.
    pub fn grpcurl(arguments: &[&str]) -> Result<String> {
        super::output_of(std::process::Command::new(Self::grpcurl_path()?).arg("-plaintext").args(arguments).stdin(Stdio::null()))
    }

    /// Where grpcurl is, to run it on a host.
    ///
    /// # Errors
    /// It is not built.
    pub fn grpcurl_path() -> Result<String> {
        Ok(path(&Tools::find()?.path("grpcurl")?)?.to_owned())
    }
}

/// The last lines of what a program wrote.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(5)).copied().collect::<Vec<_>>().join("\n")
}

fn path(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}

fn etcd(tools: &Tools, folder: &Path) -> Result<Program> {
    Ok(tools.program("etcd")?.arg("--data-dir").arg(folder.join("etcd")).args([
        "--unsafe-no-fsync",
        "--log-level=error",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
    ]))
}

fn apiserver(tools: &Tools, folder: &Path) -> Result<Program> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", folder.join(name).display());
    let files = [
        file("tls-cert-file", "server.crt"),
        file("tls-private-key-file", "server.key"),
        file("service-account-key-file", "accounts.pub"),
        file("service-account-signing-key-file", "accounts.key"),
        file("token-auth-file", "tokens.csv"),
        file("audit-policy-file", "audit-policy.yaml"),
        file("audit-log-path", "audit.log"),
    ];
    Ok(tools.program("kube-apiserver")?.args(files).args([
        "--etcd-servers=http://127.0.0.1:2379",
        "--bind-address=0.0.0.0",
        "--advertise-address=172.17.0.2",
        "--secure-port=6443",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--authorization-mode=Node,RBAC",
        "--service-cluster-ip-range=10.96.0.0/16,fd00:10:96::/112",
        "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
        "--anonymous-auth=false",
        "--allow-privileged=true",
        "--event-ttl=10m",
        "--profiling=false",
        "--watch-cache=true",
    ]))
}

/// What the API server notes of requests: whatever a ServiceAccount asks for, once it is answered.
fn audit_policy() -> Value {
    let (all, begins) = ("system:serviceaccounts", ["RequestReceived"]);
    let noted = json!([{"level": "Metadata", "userGroups": [all], "omitStages": begins}, {"level": "None"}]);
    json!({"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": noted})
}

/// An authority, the API server's certificate, and the key that signs service account tokens.
fn certificates(folder: &Path) -> Result<()> {
    let authority_key = KeyPair::generate()?;
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(folder.join("ca.crt"), authority.self_signed(&authority_key)?.pem())?;
    let issuer = Issuer::new(authority, authority_key);
    let mut server = CertificateParams::new(vec!["kubernetes.default.svc".to_owned()])?;
    for address in ["172.17.0.2", "127.0.0.1", "10.96.0.1"] {
        server.subject_alt_names.push(SanType::IpAddress(address.parse()?));
    }
    let key = KeyPair::generate()?;
    fs::write(folder.join("server.crt"), server.signed_by(&key, &issuer)?.pem())?;
    fs::write(folder.join("server.key"), key.serialize_pem())?;
    let accounts = KeyPair::generate()?;
    fs::write(folder.join("accounts.key"), accounts.serialize_pem())?;
    fs::write(folder.join("accounts.pub"), accounts.public_key_pem())?;
    Ok(())
}

fn kubeconfig(folder: &Path, token: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": SERVER, "certificate-authority": folder.join("ca.crt")}}],
        "users": [{"name": "lab", "user": {"token": token}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
    })
    .to_string()
}

/// Starts a real nginx on a host, with a page that says who it is, and waits until it serves.
///
/// # Errors
/// It does not start.
pub fn nginx(lab: &Lab, host: &Host, port: u16) -> Result<Process> {
    let folder = lab.folder().join(format!("nginx-{}-{port}", host.name()));
    fs::create_dir_all(&folder)?;
    let (place, name) = (folder.display(), host.name());
    let config = format!(
        "user root root; daemon off; master_process off; pid {place}/pid; error_log stderr; events {{ worker_connections 256; }}\n\
         http {{ access_log off; client_body_temp_path {place}; proxy_temp_path {place}; fastcgi_temp_path {place};\n\
         uwsgi_temp_path {place}; scgi_temp_path {place};\n\
         server {{ listen {port} reuseport; location / {{ default_type text/plain; return 200 'nginx on {name}\\n'; }} }} }}\n"
    );
    fs::write(folder.join("nginx.conf"), config)?;
    let process = Program::new("nginx").args(["-p", path(&folder)?, "-e", "stderr", "-c"]).arg(folder.join("nginx.conf")).start(host)?;
    until(Duration::from_secs(10), &format!("nginx on {name} serves"), || host.curl(&format!("http://127.0.0.1:{port}/")))?;
    Ok(process)
}

/// Starts a real name server on a host that knows one name, and waits until it answers by UDP and TCP.
///
/// It refuses TCP on addresses that no interface has, so what arrives for a VIP is redirected to the host's own, as kube-proxy would.
///
/// # Errors
/// It does not start.
pub fn dns(host: &Host) -> Result<Process> {
    let arguments = [
        "--no-daemon",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--conf-file=/dev/null",
        "--pid-file",
        "--address=/web.lab.example/192.0.2.53",
    ];
    let redirect =
        "table ip dns { chain in { type nat hook prerouting priority dstnat; meta l4proto { tcp, udp } th dport 53 redirect; }; }";
    host.netns().run("nft", &[redirect])?;
    let process = Program::new("dnsmasq").args(arguments).start(host)?;
    for tcp in [false, true] {
        until(Duration::from_secs(10), &format!("the name server on {} answers", host.name()), || {
            let answer = host.dig(host.address().into(), "web.lab.example", tcp)?;
            if answer == "192.0.2.53" { Ok(()) } else { bail!("{answer}") }
        })?;
    }
    Ok(process)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_assets_is_obeyed_and_nothing_missing_there_is_taken_from_elsewhere() {
        let (built, assets) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (built, assets) = (built.path(), assets.path());
        for name in ["etcd", "kube-apiserver", "kubectl", "kube-proxy"] {
            fs::write(built.join(name), "").unwrap();
        }
        for name in ["etcd", "kube-proxy"] {
            fs::write(assets.join(name), "").unwrap();
        }
        let missing = |folder: &Path, name: &str, why: &str| Err(format!("{} is missing: {why}", folder.join(name).display()));
        let with = Some(assets.to_owned());
        let cases = [
            (None, "etcd", Ok(built.join("etcd"))),
            (None, "grpcurl", missing(built, "grpcurl", "run tests/tools/build")),
            (with.clone(), "etcd", Ok(assets.join("etcd"))),
            (with.clone(), "kubectl", missing(assets, "kubectl", "KUBEBUILDER_ASSETS names this folder")),
            (with, "kube-proxy", Ok(built.join("kube-proxy"))),
        ];
        for (assets, name, wanted) in cases {
            let tools = Tools { built: built.to_owned(), assets };
            assert_eq!(tools.path(name).map_err(|error| error.to_string()), wanted, "{name}");
        }
    }
}
