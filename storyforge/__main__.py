"""`python -m storyforge`, for where the script is not on the path."""

from storyforge.cli.program import app

if __name__ == "__main__":
    app(prog_name="storyforge")
