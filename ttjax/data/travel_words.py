"""Value lists of the synthetic travel corpus: what may stand in a slot, by name of the list.

Cities are real; airlines, hotels and other companies are invented.
"""

from __future__ import annotations


def _split(text: str) -> tuple[str, ...]:
    return tuple(text.split("|"))


def _cross(firsts: str, seconds: str) -> tuple[str, ...]:
    return tuple(f"{a} {b}" for a in _split(firsts) for b in _split(seconds))


_DAYS = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
_MONTHS = "january|february|march|april|may|june|july|august|september|october|november|december"
_ORDINALS = (
    "first|second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth|fourteenth"
    "|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth|twenty first|twenty second|twenty third"
    "|twenty fourth|twenty fifth|twenty sixth|twenty seventh|twenty eighth"
)
_SMALL = "two|three|four|five|six|seven|eight|nine|ten"
_AMOUNTS = (
    "fifty|eighty|ninety|100|120|150|one hundred|200|250|two hundred|300|three hundred|350|400"
    "|four hundred|500"
    "|five hundred|600|750|800|900|one thousand"
)

VALUES: dict[str, tuple[str, ...]] = {
    "city": _split(
        "amsterdam|athens|auckland|bangkok|barcelona|beijing|berlin|bogota|boston|brisbane|brussels"
        "|buenos aires"
        "|cairo|calgary|cape town|casablanca|chicago|copenhagen|dallas|delhi|denver|dubai|dublin|edinburgh"
        "|frankfurt|geneva|hanoi|havana|helsinki|hong kong|houston|istanbul|jakarta|johannesburg|kuala lumpur"
        "|kyoto|las vegas|lima|lisbon|london|los angeles|lyon|madrid|manila|melbourne|mexico city|miami|milan"
        "|montreal|mumbai|munich|nairobi|new orleans|new york|nice|osaka|oslo|panama city|paris|perth|phoenix"
        "|porto|prague|quito|reykjavik|rio de janeiro|rome|salt lake city|san diego|san francisco|san juan"
        "|santiago|sao paulo|seattle|seoul|shanghai|singapore|stockholm|sydney|tel aviv|tokyo|toronto|tunis"
        "|vancouver|venice|vienna|warsaw|zurich"
    ),
    "country": _split(
        "argentina|australia|brazil|canada|chile|china|egypt|france|germany|iceland|india|indonesia|japan"
        "|kenya"
        "|mexico|morocco|new zealand|norway|peru|portugal|south africa|south korea|thailand|turkey|vietnam"
    ),
    "nationality": _split(
        "american|austrian|belgian|british|canadian|danish|dutch|finnish|french|german|greek|irish|italian"
        "|polish|spanish|swedish|swiss"
    ),
    "airport": _split(
        "heathrow|gatwick|orly|charles de gaulle|schiphol|o'hare|kennedy airport|la guardia|newark airport"
        "|logan airport|haneda|narita|barajas|ben gurion|linate|arlanda|changi|dulles|sky harbor|love field"
    ),
    "airline": _split(
        "northwind|northwind air|blue heron air|aurora airlines|pacific crest|silver wing|transalpine"
        "|polar star"
        "|meridian airways|red kite air|harbor air|sunward|terra nova airlines|zephyr|atlantic bridge"
        "|kestrel jet"
    ),
    "aircraft": _split(
        "airbus a320|airbus a350|airbus a380|boeing 737|boeing 777|boeing 787|embraer 190|atr 72|turboprop"
        "|jumbo jet|seaplane"
    ),
    "cabin": _split("economy|premium economy|business class|business|first class|coach"),
    "flight_number": _split(
        "12|47|88|103|216|245|331|417|428|509|562|640|713|778|824|906|951|1120|1405|2018"
    ),
    "fare_code": _split("b|f|h|k|m|q|y|yn|qx|bh|ap 57|ap 80"),
    "trip": _split("round trip|one way|return|open jaw"),
    "stops": _split("nonstop|direct|one stop|two stop"),
    "meal": _split(
        "breakfast|lunch|dinner|snack|hot meal|vegetarian meal|vegan meal|kosher meal|halal meal|light supper"
    ),
    "seat": _split("window seat|aisle seat|middle seat|exit row|front row seat|bassinet seat|extra legroom"),
    "cheap": _split("cheapest|least expensive|best|most affordable"),
    "fast": _split("fastest|shortest|quickest|earliest|latest|last|first"),
    "day": _split(_DAYS),
    "near_day": _split("today|tomorrow|tonight|this weekend|next week|the day after tomorrow")
    + _cross("next|this", _DAYS),
    "date": _cross(_MONTHS, _ORDINALS),
    "period": _split(
        "morning|afternoon|evening|early morning|late morning|late afternoon|late evening|night"
    ),
    "time": _cross("1|2|3|4|5|6|7|8|9|10|11|12", "am|pm")
    + _cross("half past|quarter past|quarter to", "one|two|three|five|six|eight|nine|eleven")
    + _split(
        "noon|midnight|6:30 am|7:15 am|8:45 am|1:20 pm|5:40 pm|9:30 pm|four o'clock|seven o'clock|ten o'clock"
    ),
    "time_bound": _split("before|after|around|by|no later than|no earlier than"),
    "price": _cross(_AMOUNTS, "dollars|euros|pounds"),
    "price_bound": _split("under|less than|at most|no more than|up to|around"),
    "travellers": _cross(_SMALL, "adults|people|passengers")
    + _split("my wife and me|my husband and me|two adults and one child|a family of four|my team"),
    "hotel": _split(
        "hotel miramar|grand linden|the old mill inn|seaview palace|hotel bellevue|lantern house"
        "|station lodge"
        "|the blue door|maple court|hotel cormorant|garden suites|royal anchor|casa verde|the weaver's rest"
    ),
    "hotel_kind": _split("hotel|hostel|guest house|apartment|bed and breakfast|motel|resort|inn"),
    "stars": _cross("two|three|four|five", "star|stars"),
    "room": _split(
        "single room|double room|twin room|family room|suite|room with a balcony|bunk bed|quiet room"
    ),
    "nights": _cross(_SMALL, "nights") + _split("one night|a week|a fortnight|a long weekend"),
    "amenity": _split(
        "swimming pool|sauna|gym|parking lot|fast internet connection|rooftop bar|laundry service"
        "|shuttle bus|spa"
        "|wheelchair ramp|play room|wine cellar|garage|kitchen|roof terrace"
    ),
    "landmark": _split(
        "cathedral|old harbor|central station|castle|opera house|botanical garden|art museum|university"
        "|stadium"
        "|main square|conference center|river front|fish market|city hall|lighthouse"
    ),
    "car_company": _split(
        "swift rentals|easy wheels|comet cars|road runner|greenway|citydrive|mountain motors"
    ),
    "car": _split(
        "compact car|compact|convertible|minivan|pickup truck|electric car|station wagon|sports car"
        "|luxury sedan"
        "|camper van|four wheel drive|hybrid"
    ),
    "days": _cross(_SMALL, "days") + _split("one day|a week|a whole month|the weekend"),
    "train": _split("night train|express train|regional train|high speed train|sleeper|steam train"),
    "railway": _split("alpine rail|coastline|central railways|northern express|riverline|highland rail"),
    "transport": _split(
        "bus|taxi|subway|tram|ferry|limousine|shuttle|airport train|water taxi|rental bike|ride share"
        "|night bus"
    ),
    "weather": _split("rain|snow|fog|thunderstorms|strong wind|sunshine|heat|hail|frost"),
    "bag": _split(
        "suitcase|backpack|bicycle|surfboard|guitar|stroller|pair of skis|golf bag|carry on bag"
        "|wheelchair|cello"
        "|cat|small dog|set of drums|tent"
    ),
    "weight": _cross("seven|ten|fifteen|twenty|thirty|forty", "kilos|pounds"),
    "currency": _split(
        "dollars|euros|pounds|yen|swiss francs|pesos|rupees|swedish crowns|dirhams|rand|korean won|lira"
    ),
    "amount": _split("fifty|80|100|150|two hundred|250|300|five hundred|800|one thousand|2000"),
    "reference": _split("k7m2|b41x|zq90|h3pt|r2d8|m55c|tt17|w8ya|n0vu|g6le|p9so|x4kj|c1fb|d70i|j2wn"),
    "person": _split(
        "anna keller|james okoro|maria silva|john park|lena berg|omar haddad|sofia rossi|my mother"
    ),
    "purpose": _split(
        "tourism|business|study|transit|a conference|a wedding|volunteer work|medical treatment"
    ),
    "sight": _split(
        "museums|art galleries|street markets|beaches|hiking trails|parks|night clubs|concert halls"
        "|temples|theaters"
        "|boat tours|walking tours|food tours"
    ),
    "cuisine": _split(
        "seafood|sushi|tapas|ramen|curry|barbecue|vegetarian food|pizza|dim sum|street food|local wine"
        "|pastries"
    ),
    "reason": _split("illness|a missed connection|bad weather|a family emergency|a strike|a delay"),
}
