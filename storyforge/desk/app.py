"""The desk's addresses: what each page may ask for, and what it is answered."""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from storyforge.book.preview import diagram, web
from storyforge.desk import concepts
from storyforge.desk.hand import Change
from storyforge.desk.session import ChangedElsewhere
from storyforge.desk.studio import Studio
from storyforge.errors import StoryForgeError
from storyforge.geometry.box import Box
from storyforge.geometry.pose import POSES
from storyforge.project.layouts import layouts
from storyforge.story.schema import schema

if TYPE_CHECKING:
    from starlette.requests import Request

_STATIC: Final = Path(__file__).parent / "static"

_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; "
    "img-src 'self' data:; font-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Nothing from elsewhere, and no script but the desk's own: a story's text is text. The editor's
marks under words are pictures in its style (`data:`)."""

_KEYS: Final = frozenset({"pose", "facing", "layout", "scene"})
"""What is set by hand besides places."""

Values = dict[str, object]
Answer = Callable[[Studio, Values], object]


class Wrong(StoryForgeError):
    """What the page sent is not what it sends."""


def _text(asked: Values, name: str) -> str:
    value = asked.get(name)
    if not isinstance(value, str):
        raise Wrong(f"`{name}` must be a text")
    return value


def _number(asked: Values, name: str) -> int:
    value = asked.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise Wrong(f"`{name}` must be a whole number")
    return value


def _texts(asked: Values, name: str) -> list[str]:
    value = asked.get(name, [])
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Wrong(f"`{name}` must be a list of texts")
    return value


def _have(asked: Values) -> frozenset[str]:
    return frozenset(_texts(asked, "have"))


def book(studio: Studio, asked: Values) -> object:
    """The pages."""
    return studio.session.view(_have(asked))


def typed(studio: Studio, asked: Values) -> object:
    """What was typed is written, and the pages follow."""
    studio.session.type(_text(asked, "text"), _text(asked, "base"))
    return _changed(studio, asked)


def move(studio: Studio, asked: Values) -> object:
    """A region stands elsewhere."""
    value = asked.get("box")
    if not isinstance(value, list) or not all(isinstance(side, int | float) for side in value):
        raise Wrong("`box` must be four numbers")
    try:
        box = Box.model_validate(value)
    except ValueError as exc:
        raise Wrong("this box does not lie in the picture") from exc
    studio.session.move(_text(asked, "panel"), _text(asked, "region"), box)
    return _changed(studio, asked)


def change(studio: Studio, asked: Values) -> object:
    """A pose, a side or a layout is another."""
    key, value = _text(asked, "key"), asked.get("value")
    if key not in _KEYS:
        raise Wrong(f"`{key}` is not changed here")
    region = _text(asked, "region") if asked.get("region") is not None else None
    new = None if value is None else _text(asked, "value")
    studio.session.change(Change(_text(asked, "panel"), key, new, region))
    return _changed(studio, asked)


def keep(studio: Studio, asked: Values) -> object:
    """Regions that were found in a picture become the story's."""
    studio.session.keep_found(_text(asked, "panel"))
    return _changed(studio, asked)


def undo(studio: Studio, asked: Values) -> object:
    """One step back."""
    studio.session.undo()
    return _changed(studio, asked)


def redo(studio: Studio, asked: Values) -> object:
    """One step forward."""
    studio.session.redo()
    return _changed(studio, asked)


def _changed(studio: Studio, asked: Values) -> object:
    studio.changed()
    told = studio.session.view(_have(asked))
    return {**told, "source": studio.session.text} if asked.get("source") else told


def draw(studio: Studio, asked: Values) -> object:
    """Panels are to be drawn."""
    panels = _texts(asked, "panels")
    story = studio.session.story
    known = {panel.id for _, panel in story.panels()} if story else set()
    for name in panels:
        if name not in known:
            raise Wrong(f"no panel named `{name}` in this story")
    steps = _number(asked, "steps") if asked.get("steps") is not None else None
    studio.queue.add(panels, max(1, min(16, _number(asked, "takes"))), steps)
    return studio.queue.told()


def queue(studio: Studio, asked: Values) -> object:
    """The queue: seen, paused, put in another order."""
    verb = asked.get("verb")
    if verb in {"pause", "resume"}:
        studio.queue.pause(verb == "pause")
    elif verb == "cancel":
        studio.queue.cancel(_number(asked, "id"))
    elif verb == "first":
        studio.queue.first(_number(asked, "id"))
    elif verb == "clear":
        studio.queue.clear()
    return studio.queue.told()


def approve(studio: Studio, asked: Values) -> object:
    """A take is picked, a picture pinned or let go of."""
    verb, panel = _text(asked, "verb"), _text(asked, "panel")
    if verb not in {"pick", "pin", "unpin"}:
        raise Wrong(f"`{verb}` is no verb of approval")
    studio.approve(verb, panel, _number(asked, "take") if verb == "pick" else None)
    return studio.panel(panel)


def caption(studio: Studio, asked: Values) -> object:
    """A caption is another."""
    story, name = studio.project().story, _text(asked, "concept")
    concepts.write_caption(story, name, _text(asked, "file"), _text(asked, "text"))
    return studio.concept(name)


def compare(studio: Studio, asked: Values) -> object:
    """A concept is to be drawn alone and fused."""
    name = _text(asked, "concept")
    if name not in studio.project().story.concepts:
        raise Wrong(f"no concept named `{name}` in this story")
    studio.queue.add_concept(name)
    return studio.queue.told()


def choose(studio: Studio, asked: Values) -> object:
    """A concept made from words is learnt from other candidates."""
    numbers = asked.get("numbers")
    if not isinstance(numbers, list) or not all(type(each) is int for each in numbers):
        raise Wrong("`numbers` must be a list of whole numbers")
    name = _text(asked, "concept")
    concepts.choose(studio.project().story, name, numbers)
    studio.look_anew()
    return studio.concept(name)


_POSTED: Final[dict[str, Answer]] = {
    "book": book,
    "type": typed,
    "move": move,
    "change": change,
    "keep": keep,
    "undo": undo,
    "redo": redo,
    "draw": draw,
    "queue": queue,
    "approve": approve,
    "caption": caption,
    "choose": choose,
    "compare": compare,
}


def text(studio: Studio, asked: Values) -> object:
    """The story as it is written."""
    session = studio.session
    return {"source": session.text, "text": session.digest(), "name": session.path.name}


def check(studio: Studio, asked: Values) -> object:
    """Every finding."""
    return {"findings": studio.session.check()}


def plan(studio: Studio, asked: Values) -> object:
    """What would be made."""
    return studio.plan_told


def words(studio: Studio, asked: Values) -> object:
    """What can be written where: the schema, and the names that the story has."""
    story = studio.session.story
    return {
        "schema": schema(),
        "concepts": concepts.concepts(story) if story else [],
        "layouts": [each.name for each in layouts(studio.path)],
        "poses": POSES,
    }


def pictured_layouts(studio: Studio, asked: Values) -> object:
    """Every layout with a picture of its regions."""
    told = []
    for each in layouts(studio.path):
        drawing = diagram.layout_drawing(each)
        faces = studio.session.pages.faces_of(drawing)
        svg = web.svg(drawing, faces, studio.address)
        told.append({"name": each.name, "about": each.description, "svg": svg})
    return {"layouts": told}


_GOT: Final[dict[str, Answer]] = {
    "text": text,
    "check": check,
    "plan": plan,
    "words": words,
    "layouts": pictured_layouts,
}


def make_app(studio: Studio) -> Starlette:
    """The app for one story; a `Guard` belongs before it."""
    posted = [
        Route(f"/api/{name}", _posting(studio, answer), methods=["POST"])
        for name, answer in _POSTED.items()
    ]
    got = [Route(f"/api/{name}", _getting(studio, answer)) for name, answer in _GOT.items()]
    files = [*_files(studio), *_parts(studio)]
    static = Mount("/static", StaticFiles(directory=_STATIC))
    return Starlette(routes=[*posted, *got, *files, static])


def _posting(studio: Studio, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        try:
            asked = json.loads(await request.body())
        except (ValueError, RecursionError):
            asked = None
        if not isinstance(asked, dict):
            return JSONResponse({"message": "a JSON object is expected"}, 400)
        return await run_in_threadpool(_answered, answer, studio, asked)

    return respond


def _getting(studio: Studio, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
    async def respond(request: Request) -> Response:
        return await run_in_threadpool(_answered, answer, studio, dict(request.query_params))

    return respond


def _answered(answer: Answer, studio: Studio, asked: Values) -> Response:
    try:
        return JSONResponse(answer(studio, asked))
    except ChangedElsewhere as exc:
        told = {"message": exc.message, "hint": exc.hint, "source": studio.session.text}
        return JSONResponse({**told, "text": studio.session.digest()}, 409)
    except Wrong as exc:
        return JSONResponse({"message": exc.message, "hint": exc.hint}, 400)
    except StoryForgeError as exc:
        return JSONResponse({"message": exc.message, "hint": exc.hint}, 422)


def _files(studio: Studio) -> list[Route]:
    """What is no JSON: the page itself, pictures, fonts, news."""

    async def index(request: Request) -> Response:
        nonce = secrets.token_urlsafe(12)
        page = (_STATIC / "index.html").read_text(encoding="utf-8").replace("{{nonce}}", nonce)
        page = page.replace("{{write}}", "1" if request.scope.get("may_write") else "")
        headers = {"content-security-policy": _POLICY.format(nonce=nonce)}
        return HTMLResponse(page, headers=headers)

    async def picture(request: Request) -> Response:
        path = studio.pictures.get(request.path_params["word"])
        return _file(path, "max-age=31536000, immutable")

    async def preview(request: Request) -> Response:
        name = request.path_params["panel"]
        story = studio.session.story
        known = story is not None and any(panel.id == name for _, panel in story.panels())
        return _file(studio.queue.preview(name) if known else None, "no-store")

    async def font(request: Request) -> Response:
        faces, number = studio.session.pages.faces, request.path_params["number"]
        return _file(faces[number].web if number < len(faces) else None, "max-age=3600")

    async def events(request: Request) -> Response:
        return StreamingResponse(studio.bus.listen(), media_type="text/event-stream")

    return [
        Route("/", index),
        Route("/picture/{word}", picture),
        Route("/preview/{panel}", preview),
        Route("/font/{number:int}", font),
        Route("/events", events),
    ]


def _parts(studio: Studio) -> list[Route]:
    """What is asked of one panel or concept, by its name in the address."""

    async def panel(request: Request) -> Response:
        name = request.path_params["panel"]
        return await run_in_threadpool(_answered, lambda s, _: s.panel(name), studio, {})

    async def concept(request: Request) -> Response:
        name = request.path_params["name"]

        def told(studio: Studio, asked: Values) -> object:
            return studio.concept(name)

        return await run_in_threadpool(_answered, told, studio, {})

    async def retouch(request: Request) -> Response:
        name, data = request.path_params["panel"], await request.body()

        def kept(studio: Studio, asked: Values) -> object:
            studio.retouch(name, data)
            return studio.panel(name)

        return await run_in_threadpool(_answered, kept, studio, {})

    return [
        Route("/api/panel/{panel}", panel),
        Route("/api/concept/{name}", concept),
        Route("/api/retouch/{panel}", retouch, methods=["POST"]),
    ]


def _file(path: Path | None, cache: str) -> Response:
    if path is None or not path.is_file():
        return PlainTextResponse("there is nothing here", 404)
    return FileResponse(path, headers={"cache-control": cache})
