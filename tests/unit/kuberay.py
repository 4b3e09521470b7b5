"""JSON schemas of what the manifests declare: KubeRay's definitions and the parts of Kubernetes that they use.

Written from the API references of KubeRay 1.6 (ray.io/v1) and Kubernetes 1.33. An unknown field is an error, as with
``kubectl apply --validate=strict``; fields that no manifest here uses are left out where the list is long.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string", "minLength": 1}
COUNT: Schema = {"type": "integer", "minimum": 0}
FLAG: Schema = {"type": "boolean"}
QUANTITY: Schema = {"type": "string", "pattern": r"^[0-9.]+(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"}
NAME: Schema = {"type": "string", "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "maxLength": 63}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}


def record(required: tuple[str, ...] = (), /, **fields: Schema) -> Schema:
    return {"type": "object", "required": list(required), "additionalProperties": False, "properties": fields}


def each(of: Schema, least: int = 1) -> Schema:
    return {"type": "array", "minItems": least, "items": of}


METADATA = record(("name",), name=NAME, namespace=NAME, labels=TEXTS, annotations=TEXTS)
RESOURCES = record(
    limits={"type": "object", "additionalProperties": QUANTITY},
    requests={"type": "object", "additionalProperties": QUANTITY},
)
KEY = record(("name", "key"), name=NAME, key=TEXT, optional=FLAG)
ENV = {
    **record(
        ("name",),
        name={"type": "string", "pattern": "^[A-Z_][A-Z0-9_]*$"},
        value={"type": "string"},  # never a number or a flag
        valueFrom=record(secretKeyRef=KEY, configMapKeyRef=KEY),
    ),
    "not": {"required": ["value", "valueFrom"]},
}
PROBE = record(
    exec=record(("command",), command=each(TEXT)),
    httpGet=record(("port",), path=TEXT, port={"type": ["integer", "string"]}),
    tcpSocket=record(("port",), port={"type": ["integer", "string"]}),
    initialDelaySeconds=COUNT,
    periodSeconds=COUNT,
    timeoutSeconds=COUNT,
    failureThreshold=COUNT,
)
CONTAINER = record(
    ("name", "image"),
    name=NAME,
    image=TEXT,
    imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
    command=each(TEXT),
    args=each({"type": "string"}),
    env=each(ENV),
    ports=each(
        record(
            ("containerPort",),
            name={"type": "string", "pattern": "^[a-z0-9-]{1,15}$"},
            containerPort={"type": "integer", "minimum": 1, "maximum": 65535},
            protocol={"enum": ["TCP", "UDP", "SCTP"]},
        )
    ),
    resources=RESOURCES,
    securityContext=record(
        allowPrivilegeEscalation=FLAG,
        capabilities=record(add=each(TEXT), drop=each(TEXT)),
        readOnlyRootFilesystem=FLAG,
        runAsNonRoot=FLAG,
        runAsUser=COUNT,
    ),
    volumeMounts=each(record(("name", "mountPath"), name=NAME, mountPath=TEXT, readOnly=FLAG, subPath=TEXT)),
    livenessProbe=PROBE,
    readinessProbe=PROBE,
    startupProbe=PROBE,
)
VOLUME = record(
    ("name",),
    name=NAME,
    persistentVolumeClaim=record(("claimName",), claimName=NAME, readOnly=FLAG),
    emptyDir=record(medium=TEXT, sizeLimit=QUANTITY),
    secret=record(("secretName",), secretName=NAME),
    configMap=record(("name",), name=NAME),
)
POD = record(
    ("containers",),
    containers=each(CONTAINER),
    initContainers=each(CONTAINER),
    volumes=each(VOLUME),
    restartPolicy={"enum": ["Always", "OnFailure", "Never"]},
    terminationGracePeriodSeconds=COUNT,
    automountServiceAccountToken=FLAG,
    serviceAccountName=NAME,
    nodeSelector=TEXTS,
    securityContext=record(
        runAsNonRoot=FLAG,
        runAsUser=COUNT,
        runAsGroup=COUNT,
        fsGroup=COUNT,
        seccompProfile=record(("type",), type={"enum": ["RuntimeDefault", "Localhost", "Unconfined"]}),
    ),
    tolerations=each(
        record(
            key=TEXT,
            operator={"enum": ["Exists", "Equal"]},
            value=TEXT,
            effect={"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
        )
    ),
)
TEMPLATE = record(("spec",), metadata=record(labels=TEXTS, annotations=TEXTS), spec=POD)

HEAD = record(
    ("template",),
    template=TEMPLATE,
    rayStartParams=TEXTS,  # numbers must be written as text
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    enableIngress=FLAG,
    headService={"type": "object"},
    resources={"type": "object", "additionalProperties": QUANTITY},
    labels=TEXTS,
)
WORKERS = record(
    ("groupName", "template", "maxReplicas", "minReplicas"),
    groupName=NAME,
    template=TEMPLATE,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    numOfHosts=COUNT,
    idleTimeoutSeconds=COUNT,
    suspend=FLAG,
    rayStartParams=TEXTS,
    resources={"type": "object", "additionalProperties": QUANTITY},
    labels=TEXTS,
    scaleStrategy=record(workersToDelete=each(TEXT)),
)
CLUSTER = record(
    ("headGroupSpec",),
    rayVersion=TEXT,
    authOptions=record(("mode",), mode={"enum": ["token", "disabled"]}, secretName=NAME),
    enableInTreeAutoscaling=FLAG,
    autoscalerOptions=record(
        upscalingMode={"enum": ["Default", "Aggressive", "Conservative"]},
        idleTimeoutSeconds=COUNT,
        version={"enum": ["v1", "v2"]},
        image=TEXT,
        imagePullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
        resources=RESOURCES,
        env=each(ENV),
        securityContext={"type": "object"},
    ),
    gcsFaultToleranceOptions={"type": "object"},
    headServiceAnnotations=TEXTS,
    managedBy=TEXT,
    suspend=FLAG,
    headGroupSpec=HEAD,
    workerGroupSpecs=each(WORKERS, least=0),
)
JOB = record(
    (),
    entrypoint=TEXT,
    rayClusterSpec=CLUSTER,
    clusterSelector=TEXTS,
    submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
    shutdownAfterJobFinishes=FLAG,
    ttlSecondsAfterFinished=COUNT,
    activeDeadlineSeconds=COUNT,
    backoffLimit=COUNT,
    suspend=FLAG,
    jobId=TEXT,
    metadata=TEXTS,
    runtimeEnvYAML=TEXT,
    entrypointNumCpus={"type": "number"},
    entrypointNumGpus={"type": "number"},
    entrypointResources=TEXT,
    submitterPodTemplate=TEMPLATE,
    submitterConfig=record(backoffLimit=COUNT),
    deletionStrategy={"type": "object"},
)
SERVICE = record(
    ("rayClusterConfig",),
    serveConfigV2=TEXT,
    rayClusterConfig=CLUSTER,
    serveService={"type": "object"},
    upgradeStrategy=record(type={"enum": ["NewCluster", "None", "NewClusterWithIncrementalUpgrade"]}),
    rayClusterDeletionDelaySeconds=COUNT,
    excludeHeadPodFromServeSvc=FLAG,
    suspend=FLAG,
)
SELECTOR = record(matchLabels=TEXTS, matchExpressions=each({"type": "object"}))
PEER = record(
    podSelector=SELECTOR, namespaceSelector=SELECTOR, ipBlock=record(("cidr",), cidr=TEXT, **{"except": each(TEXT)})
)
POLICY_PORT = record(port={"type": ["integer", "string"]}, endPort=COUNT, protocol={"enum": ["TCP", "UDP", "SCTP"]})


def resource(api_version: str, kind: str, spec: Schema) -> Schema:
    kinds: dict[str, Schema] = {"apiVersion": {"const": api_version}, "kind": {"const": kind}}
    return record(("apiVersion", "kind", "metadata", "spec"), **kinds, metadata=METADATA, spec=spec)


SCHEMAS: dict[str, Schema] = {
    "RayCluster": resource("ray.io/v1", "RayCluster", CLUSTER),
    "RayJob": resource("ray.io/v1", "RayJob", JOB),
    "RayService": resource("ray.io/v1", "RayService", SERVICE),
    "Job": resource(
        "batch/v1",
        "Job",
        record(("template",), template=TEMPLATE, backoffLimit=COUNT, ttlSecondsAfterFinished=COUNT, completions=COUNT),
    ),
    "NetworkPolicy": resource(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        record(
            ("podSelector",),
            podSelector=SELECTOR,
            policyTypes=each({"enum": ["Ingress", "Egress"]}),
            ingress=each(record(**{"from": each(PEER)}, ports=each(POLICY_PORT)), least=0),
            egress=each(record(to=each(PEER), ports=each(POLICY_PORT)), least=0),
        ),
    ),
}
