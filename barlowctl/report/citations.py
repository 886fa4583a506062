"""The papers behind the methods, as BibTeX."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper on arXiv. authors: in BibTeX's way."""

    key: str
    title: str
    authors: str
    year: int
    arxiv: str

    def bibtex(self) -> str:
        fields = {
            "title": f"{{{self.title}}}",
            "author": self.authors,
            "year": str(self.year),
            "eprint": self.arxiv,
            "archivePrefix": "arXiv",
        }
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        return f"@misc{{{self.key},\n{lines}\n}}"


BARLOW_TWINS = Paper(
    "zbontar2021barlow",
    "Barlow Twins: Self-Supervised Learning via Redundancy Reduction",
    "Zbontar, Jure and Jing, Li and Misra, Ishan and LeCun, Yann and Deny, Stéphane",
    2021,
    "2103.03230",
)
PAPERS = {
    "barlow-twins": (BARLOW_TWINS,),
    "mixed-barlow-twins": (
        Paper(
            "bandara2023guarding",
            "Guarding Barlow Twins Against Overfitting with Mixed Samples",
            "Bandara, Wele Gedara Chaminda and De Melo, Celso M. and Patel, Vishal M.",
            2023,
            "2312.02151",
        ),
        BARLOW_TWINS,
    ),
    "vicreg": (
        Paper(
            "bardes2021vicreg",
            "VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning",
            "Bardes, Adrien and Ponce, Jean and LeCun, Yann",
            2021,
            "2105.04906",
        ),
    ),
    "pirl": (
        Paper(
            "misra2019pirl",
            "Self-Supervised Learning of Pretext-Invariant Representations",
            "Misra, Ishan and van der Maaten, Laurens",
            2019,
            "1912.01991",
        ),
    ),
    "byol": (
        Paper(
            "grill2020byol",
            "Bootstrap your own latent: A new approach to self-supervised Learning",
            "Grill, Jean-Bastien and others",
            2020,
            "2006.07733",
        ),
    ),
    "simsiam": (
        Paper(
            "chen2020simsiam",
            "Exploring Simple Siamese Representation Learning",
            "Chen, Xinlei and He, Kaiming",
            2020,
            "2011.10566",
        ),
    ),
    "swav": (
        Paper(
            "caron2020swav",
            "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments",
            "Caron, Mathilde and Misra, Ishan and Mairal, Julien and Goyal, Priya and Bojanowski, Piotr and "
            "Joulin, Armand",
            2020,
            "2006.09882",
        ),
    ),
    "simclr": (
        Paper(
            "chen2020simclr",
            "A Simple Framework for Contrastive Learning of Visual Representations",
            "Chen, Ting and Kornblith, Simon and Norouzi, Mohammad and Hinton, Geoffrey",
            2020,
            "2002.05709",
        ),
    ),
    "moco": (
        Paper(
            "he2019moco",
            "Momentum Contrast for Unsupervised Visual Representation Learning",
            "He, Kaiming and Fan, Haoqi and Wu, Yuxin and Xie, Saining and Girshick, Ross",
            2019,
            "1911.05722",
        ),
    ),
    "moco-v2": (
        Paper(
            "chen2020mocov2",
            "Improved Baselines with Momentum Contrastive Learning",
            "Chen, Xinlei and Fan, Haoqi and Girshick, Ross and He, Kaiming",
            2020,
            "2003.04297",
        ),
    ),
    "supervised": (),
}
"""By the name of a recipe's objective."""


def bibtex(method: str, version: str) -> str:
    """What to cite for weights of a method that this version of barlowctl trained."""
    software = (
        "@software{barlowctl,\n"
        "  title = {barlowctl: Barlow Twins pre-training, evaluation and export from the command line},\n"
        "  author = {{The barlowctl authors}},\n"
        f"  version = {{{version}}}\n}}"
    )
    return "\n\n".join([*(paper.bibtex() for paper in PAPERS.get(method, ())), software])
