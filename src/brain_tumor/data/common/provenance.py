"""Where data come from: what a data sheet says that no file does."""

from pydantic import BaseModel

ATLAS = (
    "Fonov et al. 2011, Unbiased average age-appropriate atlases for pediatric studies, NeuroImage "
    "54:313-327, 10.1016/j.neuroimage.2010.07.033: ICBM152, "
    "as shipped with nilearn"
)


class Origin(BaseModel, frozen=True, extra="forbid"):
    """What is declared of a published data set, in the parameters files.

    Attributes:
        data_set: the name of the data set that this is about; of another nothing is said.
        text: who collected and labelled it, from whom, how.
        terms: on which it may be used.
        problems: known ones.
        sources: to cite.
    """

    data_set: str
    text: str
    terms: str
    problems: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


PHANTOMS = Origin(
    data_set="simulated",
    text=(
        "Made by this project, nobody was scanned: phantoms from the tissue maps of the ICBM152 atlas, "
        "with tumours grown in them at random, written in the "
        "layout of the published set so that every step runs as on real data."
    ),
    terms="Free to use: made anew by every run from a seed.",
    problems=(
        "Phantoms are far simpler than patients: scores on them say that the pipeline works, nothing about people.",
    ),
    sources=(ATLAS,),
)


def find_origin(name: str, declared: Origin, *, simulated: bool, parameter: str) -> Origin:
    """What is known of a data set: that it is simulated, what is declared of it, or that nothing is.

    Args:
        parameter: where its origin is declared.
    """
    if simulated:
        return PHANTOMS
    if name == declared.data_set:
        return declared
    text = f"Not declared: `{parameter}` is about {declared.data_set}. Say there where {name} is from."
    return Origin(data_set=name, text=text, terms="Not declared.")
