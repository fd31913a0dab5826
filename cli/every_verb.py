"""Where each verb is written down, in the order of the help; only the one asked for is loaded."""

# The verb, which is the name of its function, or of a group's callback, and the module in this folder.
MODULES = {
    "train": "training",
    "finetune": "training",
    "preview": "previewing",
    "synthesize": "synthesizing",
    "evaluate": "evaluating",
    "calibrate": "calibrating",
    "sensitivity": "sensitivity",
    "compile": "compiling",
    "verify": "verifying",
    "sign": "signing",
    "build": "building",
    "inspect": "inspecting",
    "run": "device",
    "explain": "explaining",
    "read": "reading",
    "serve": "serving",
    "doctor": "doctor",
    "bench": "measuring",
    "report": "reporting",
    "compare": "reporting",
    "models": "pretrained",
    "demo": "demo",
    "deploy": "deploying",
}
GROUPS = ("deploy",)  # verbs with verbs of their own, in their module's ``app``
