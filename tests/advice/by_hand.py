"""Advice that no test types, and why: only a person can do it, or no test has what it takes."""

from tests.advice.collected import VALUE

PLACE = "which other place or name, only the person knows"
IMAGES = "which other images or labels, only the person has"
FETCH = "what is to be had again lies with its publisher"
EDIT = "a file of the person's has to be edited, or an export of a program made"
MACHINE = "the machine has to be changed: space, rights, software"
WAIT = "another process has to end first"
PYTHON = "from the Python interface: no command line is at hand"
CHOICE = "several values would do, and which is best is a matter of the training"
PASSED_ON = "made elsewhere: collected there, or from what was typed"

REASONS = {
    "name another directory with --out": PLACE,
    "name another place as OUT": PLACE,
    "name another place with --out": PLACE,
    "name another place with --map": PLACE,
    "name another place with --neighbours-out": PLACE,
    "name another file with --out": PLACE,
    "name another file": PLACE,
    "name another folder": PLACE,
    "choose another folder": PLACE,
    "choose another name": PLACE,
    "name one that is there": PLACE,
    "choose another --out": PLACE,
    "give a file name, e.g. images.beton": PLACE,
    f"name it {VALUE}.beton": PLACE,
    "set BARLOWCTL_DATA": PLACE,
    "make room, or choose another place for OUT": PLACE,
    "free space or choose another --out": PLACE,
    "use more labelled images": IMAGES,
    "name a folder with more images, or a data set of the data home, with --data": IMAGES,
    "pack both splits from one dataset folder, so that they share its class list": IMAGES,
    "put images into these class folders, or remove the folders": IMAGES,
    "put image files into it, or give another folder": IMAGES,
    "name the run's own images with --data, or start a new run": IMAGES,
    "name the benchmark's folder with --data": IMAGES,
    "name the folder of images that the list belongs to with --data": IMAGES,
    "leave unlabelled images out, or evaluate on labelled data with --data": IMAGES,
    "give a folder with JPEGs in it, or below it": IMAGES,
    "give a folder of images": IMAGES,
    "give tar files that hold image files": IMAGES,
    "give a zip file that holds image files": IMAGES,
    "check the files, or give another folder": IMAGES,
    "merge or rename one of them": IMAGES,
    "unpack the archives again": FETCH,
    "unpack the archive again": FETCH,
    "download it again": FETCH,
    "download it again from its authors": FETCH,
    "copy it again": FETCH,
    "unpack trainvalsplit_places205 and imagesPlaces205_resize into one folder": FETCH,
    "unpack train_val2018, train2018.json and val2018.json into one folder": FETCH,
    "unpack VOCtrainval_06-Nov-2007.tar and VOCtest_06-Nov-2007.tar into one folder": FETCH,
    f"unpack VOCtest_06-Nov-2007.tar into {VALUE}": FETCH,
    f"unpack VOCtrainval_06-Nov-2007.tar into {VALUE}": FETCH,
    f"unpack the images of {VALUE} into {VALUE}": FETCH,
    "restore it from a copy, or start a new run": FETCH,
    "rename the file": EDIT,
    "correct the grid file": EDIT,
    "correct the table": EDIT,
    "give Parquet files of images": IMAGES,
    "name a file that `barlowctl export` wrote": PLACE,
    "rename one of them": EDIT,
    "name a TOML file": EDIT,
    "write one path a line": EDIT,
    "number the classes 0, 1, 2, ...": EDIT,
    "put it into a hub folder: config.json with its timm 'architecture', and model.safetensors": EDIT,
    f"give it its size in model.backbone_args (img_size = {VALUE}), or change views.size and eval.crop": EDIT,
    "remove global_pool from model.backbone_args": EDIT,
    "remove it: channels, stem, zero_init_last and weights have their own keys": EDIT,
    "correct model.backbone_args": EDIT,
    f"set objective.{VALUE} to one of them": EDIT,
    "set optimizer.name to one of them": EDIT,
    "mend that and run the same command, or leave the variant out with --without": EDIT,
    "leave it out with --rows": EDIT,
    "export them as JPEG, PNG or TIFF to have them read": EDIT,
    "convert them to PNG to have them read": EDIT,
    "save their slices as PNG to have them read": EDIT,
    "save their tiles as PNG or JPEG to have them read": EDIT,
    "save their images as PNG to have them read": EDIT,
    "take pictures out of one with: pdfimages -all FILE PREFIX": EDIT,
    "take pictures out of one with: ffmpeg -i VIDEO -vf fps=1 frame-%06d.jpg": EDIT,
    "convert one with: djxl FILE.jxl FILE.png": EDIT,
    "move their images into one folder, or give one of them": EDIT,
    "give the split the classes of the training set, or pack it from a folder of its own": IMAGES,
    "name another image with --neighbours": IMAGES,
    "give images that can be read": IMAGES,
    f"move the list to {VALUE}, where its paths begin": EDIT,
    f"write the list anew without '{VALUE}', its paths from the list's folder on": EDIT,
    "download the images, then list the files": FETCH,
    "write one image a line": EDIT,
    "write it again, best in UTF-8": EDIT,
    "save it as UTF-8": EDIT,
    "rename it": EDIT,
    "unset PYTHON_EXEC": "the variable is of the person's shell, which no command of ours can change",
    "create the folder, or check access": MACHINE,
    "check access": MACHINE,
    "check access, or download it again": MACHINE,
    "make it writable, or start a run elsewhere": MACHINE,
    "free space or make it writable, then continue the run with --resume": MACHINE,
    "wait for it to end, or write under another name": WAIT,
    "wait for it, or stop it, then resume": WAIT,
    "extract both with the same backbone": PYTHON,
    "use a backbone with global pooling (timm: num_classes=0)": PYTHON,
    "use form 'auto' and a wider projector": PYTHON,
    "check which layers are frozen": PYTHON,
    "use sparse=False in the embedding": PYTHON,
    "try smaller learning rates": PYTHON,
    "lower train.warmup_epochs or raise train.epochs": CHOICE,
    "lower optimizer.lr or raise train.warmup_epochs and start anew; with train.precision fp16 try bf16 or fp32; "
    f"`barlowctl data preview` shows whether the images are sound; before it: {VALUE}/metrics.jsonl": CHOICE,
    VALUE: PASSED_ON,
    f"{VALUE} {VALUE}": PASSED_ON,
    f"{VALUE} --help": PASSED_ON,
    f"{VALUE} --data FOLDER": PASSED_ON,
}

NETWORK = "installs or downloads something, and tests have no network"
ACCOUNT = "asks for the key of somebody's account"
NOT_TYPED = {
    f"pip install {VALUE}": NETWORK,
    f"barlowctl data get {VALUE}": NETWORK,
    f"python -c 'import timm; timm.create_model({VALUE}, pretrained=True)'": NETWORK,
    "apt-get install g++": MACHINE,
    "wandb login": ACCOUNT,
}
"""Texts of commands, wherever they are given."""

CUDA = "where there are GPUs alone"
LAUNCHER = "the command of the launcher is not known to the processes that it started"
BEFORE = "the command line refuses it before"
SIGNAL = "after a signal to several processes: tests/cli/test_ablate.py sends it, and types the command again"
COMPLETES = "not advice, but what makes it a whole command"
HANDED_ON = "handed on, and shown by the loop of the training"
MINUTES = "takes minutes"
SHIPPED = "where no recipe is shipped to copy: all methods have one"
OTHER_TIMM = "wants a timm that reads config.json otherwise: tests/cli/test_export.py fakes one"
HELP = "the help of a command, which is there: tests/cli/test_help.py"
EITHER_WORD = f"{VALUE} {VALUE}"
NOT_FOLLOWED = {
    ("assemble/run_recipe.py recipe_of", "barlowctl runs list"): BEFORE,
    ("assemble/data.py choose_loader", EITHER_WORD): BEFORE,
    ("assemble/machine.py check_compiler", "--set train.compile=false"): CUDA,
    ("assemble/machine.py device_of_rank", f"torchrun --nproc-per-node {VALUE} -m barlowctl ..."): CUDA,
    ("assemble/machine.py pool_slots", "without --device"): CUDA,
    ("bench/loader.py choose_rows#2", "without --rows"): MINUTES,
    ("bench/compared.py check_method", f"--method {VALUE}"): MINUTES,
    ("bench/compared.py check_method#2", EITHER_WORD): MINUTES,
    ("bench/step.py choose_rows", EITHER_WORD): MINUTES,
    ("bench/step.py choose_rows#2", "--rows ours,lightly"): MINUTES,
    ("bench/step.py compare", "--batch 16"): MINUTES,
    ("cli/app.py run", "barlowctl --help"): COMPLETES,
    ("cli/bench/loss.py _size", "--sizes 256x8192"): MINUTES,
    ("cli/bench/step.py _widths", "--widths 8192x3"): MINUTES,
    ("cli/bench/step.py step", "barlowctl bench step --ladder"): MINUTES,
    ("cli/bench/step.py step#2", "--loading"): MINUTES,
    ("cli/pretrain_ranks.py is_rank#2", "without --gpus --processes"): LAUNCHER,
    ("cli/pretrain_ranks.py run_ranks", f"--gpus {VALUE}"): CUDA,
    ("cli/probe.py _tasks", EITHER_WORD): BEFORE,
    ("cli/usage.py usage_error", "barlowctl --help"): HELP,
    ("cli/usage.py usage_error#2", "barlowctl --help"): HELP,
    ("cli/usage.py usage_error#3", "barlowctl --help"): HELP,
    ("cli/usage.py usage_error#4", "barlowctl --help"): HELP,
    ("data/beton/pack.py check_options", EITHER_WORD): BEFORE,
    ("data/beton/pack.py check_options#2", EITHER_WORD): BEFORE,
    ("data/beton/reader.py image", f"barlowctl data pack SOURCE {VALUE} --overwrite"): PYTHON,
    ("data/beton/writer.py __init__", "--overwrite"): BEFORE,
    ("data/home.py dataset_file", EITHER_WORD): BEFORE,
    ("data/loaders/kernel.py __init__", "--loader plain"): BEFORE,
    ("data/sources/__init__.py open_source", EITHER_WORD): BEFORE,
    ("data/sources/read_options.py __post_init__", EITHER_WORD): BEFORE,
    ("distributed.py joined", "torchrun --standalone --nproc-per-node 2 -m barlowctl ..."): MINUTES,
    ("eval/projection.py check_projection", EITHER_WORD): BEFORE,
    ("export/formats/hub_folder.py check_loaded", "--format timm"): OTHER_TIMM,
    ("launchers/pool.py run_all", "barlowctl ..."): SIGNAL,
    ("measure/classification.py _train", "barlowctl ..."): HANDED_ON,
    ("measure/transfer.py transfer", EITHER_WORD): BEFORE,
    ("objective/barlow_twins.py check_embeddings", "--set data.drop_last=true"): BEFORE,
    ("study/family.py find", "--methods all"): SHIPPED,
    ("train/checkpoint.py load_latest", f"rm -r {VALUE} && barlowctl ..."): BEFORE,
    ("train/engine.py train", f"barlowctl pretrain --resume {VALUE}"): HANDED_ON,
    ("train/optim.py __init__", "--set optimizer.lars_variant=barlow-twins"): BEFORE,
}
"""Places in the code (see `sites`) and texts of theirs."""
