//! A real control plane on `control`: etcd and kube-apiserver; kubectl for people, a kube-proxy on each node, and the controllers that
//! follow Pods.
