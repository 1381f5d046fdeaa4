"""Sentence templates of the synthetic travel corpus: shared rules, and one template for each intent.

travel.py says how a template reads; the value lists it names are in travel_words.py.
"""

from __future__ import annotations

RULES: dict[str, str] = {
    "ask": "show me|list|find [me]|i need|i would like|i'm looking for|give me|can you find|do you have"
    "|please show me",
    "please": "please|if possible|thank you|thanks",
    "know": "can you tell me|i would like to know|please tell me|do you know|tell me",
    # From one city to another, in several orders: the label must come from the words around.
    "route": "from <from_city=city> to <to_city=city>|to <to_city=city> from <from_city=city>"
    "|between <from_city=city> and <to_city=city>|from <from_airport=airport> to <to_city=city>"
    "|leaving <from_city=city> for <to_city=city>|from <from_city=city> to <to_airport=airport>"
    "|out of <from_city=city> going to <to_city=city>",
    "track": "from <from_city=city> to <to_city=city>|to <to_city=city> from <from_city=city>"
    "|between <from_city=city> and <to_city=city>",
    "via": "via <via_city=city>|with a stop in <via_city=city>|through <via_city=city>",
    "depart": "on <depart_day=day>|on <depart_day=date>|<depart_day=near_day>|at <depart_time=time>"
    "|in the <period=period>|on <depart_day=day> <period=period>"
    "|on <depart_day=date> at <depart_time=time>|<bound=time_bound> <depart_time=time>"
    "|on <depart_day=day> <bound=time_bound> <depart_time=time>"
    "|departing <bound=time_bound> <depart_time=time> on <depart_day=date>",
    "arrive": "arriving on <arrive_day=day>|arriving <bound=time_bound> <arrive_time=time>"
    "|arriving <arrive_day=near_day> at <arrive_time=time>|landing <bound=time_bound> <arrive_time=time>"
    "|that gets in on <arrive_day=date>",
    "return": "returning on <return_day=day>|coming back on <return_day=date>|returning <return_day=near_day>"
    "|and back on <return_day=day>",
    "budget": "for <bound=price_bound> <price=price>|and i can pay <bound=price_bound> <price=price>",
    "for_whom": "for <travellers=travellers>",
    "with_airline": "on <airline=airline>|with <airline=airline>",
    "stay": "from <check_in=date> to <check_out=date>|from <check_in=day> to <check_out=day>"
    "|for <duration=nights>"
    "|for <duration=nights> from <check_in=date>|checking in on <check_in=day>",
    "hire": "for <duration=days>|from <pickup_day=day> to <dropoff_day=day>|<pickup_day=near_day>"
    "|on <pickup_day=day> at <time=time>|from <pickup_day=date> to <dropoff_day=date>"
    "|<pickup_day=near_day> <bound=time_bound> <time=time>|for <duration=days> from <pickup_day=date>",
    "booking": "booking <reference=reference>|reservation <reference=reference>"
    "|the booking for <person=person>"
    "|reservation number <reference=reference> for <person=person>|my ticket <reference=reference>",
    "flight_name": "<airline=airline> flight <flight_number=flight_number>"
    "|flight <flight_number=flight_number>"
    "|flight number <flight_number=flight_number> of <airline=airline>",
}

# Weight and template of each intent: a few are frequent and many rare, as in real queries.
INTENTS: dict[str, tuple[int, str]] = {
    "find_flight": (
        12,
        "{ask} a [<stops=stops>] flight [{with_airline}] {route} [{depart}] [({arrive}|{return})]"
        "|i (want|need|would like) to fly {track} [{via}] {depart} [in <cabin=cabin>] [{for_whom}]"
        "|what [<stops=stops>] flights are there {route} {depart}"
        "|<from_city=city> to <to_city=city> [{via}] {depart} [{with_airline}] [{please}]"
        "|{ask} the <rank=fast> flight {route} [{via}] [{depart}] [{please}]",
    ),
    "airfare": (
        6,
        "how much is a [<trip=trip>] [<cabin=cabin>] ticket {route} [{via}] [{with_airline}] [{return}]"
        "|what is the <rank=cheap> [<trip=trip>] fare {route} [{depart}]"
        "|{ask} <trip=trip> fares {route} {budget}|{ask} a [<cabin=cabin>] ticket {route} {depart} {budget}"
        "|what does it cost to fly {track} [{via}] {depart} {for_whom}",
    ),
    "airline": (
        2,
        "which airlines fly {track} [{via}] [{depart}]|what airline has the <rank=cheap> flights {route}"
        "|does <airline=airline> fly {track} [{depart}]"
        "|{know} which airlines (serve|fly to) (<city=city>|<airport=airport>)",
    ),
    "aircraft": (
        2,
        "what (kind|type) of (plane|aircraft) is {flight_name} [{route}]"
        "|how many seats does a <aircraft=aircraft> have"
        "|do you have flights {route} on a <aircraft=aircraft> [{depart}]"
        "|is {flight_name} a <aircraft=aircraft> or not",
    ),
    "flight_duration": (
        2,
        "how long is the [<stops=stops>] flight {route} [{with_airline}]"
        "|{know} how many hours {flight_name} takes [{route}]"
        "|what is the flying time {route} [{via}] [in a <aircraft=aircraft>]",
    ),
    "flight_status": (
        3,
        "is {flight_name} [{route}] (on time|delayed|canceled) [<depart_day=near_day>]"
        "|has {flight_name} from <from_city=city> landed yet"
        "|what time does {flight_name} (leave <from_city=city>|get to <to_city=city>) [on <depart_day=day>]"
        "|{know} the gate of {flight_name} [to <to_city=city>] [{please}]",
    ),
    "airport": (
        1,
        "which airport is closest to [the <landmark=landmark> in] <city=city>"
        "|how many airports does <city=city> have|where is <airport=airport> [and what city is near it]"
        "|{know} how early i must be at <airport=airport> for a flight to <to_city=city>",
    ),
    "meaning": (
        1,
        "what does fare code <fare_code=fare_code> mean [{with_airline}]"
        "|explain the code <fare_code=fare_code> [on my ticket] [{please}]"
        "|what does <trip=trip> mean [{with_airline}]|{know} what class <fare_code=fare_code> stands for",
    ),
    "baggage": (
        3,
        "can i (take|bring|carry) a <bag=bag> on {flight_name} [to <to_city=city>]"
        "|how much does <airline=airline> charge for a <bag=bag> [of <weight=weight>] [{route}]"
        "|what is the baggage limit in <cabin=cabin> {with_airline}"
        "|may my <bag=bag> weigh (over|more than) <weight=weight> {with_airline}",
    ),
    "meal": (
        2,
        "do they serve a <meal=meal> on {flight_name} [{route}]"
        "|i would like a <meal=meal> on {flight_name} {please}"
        "|is there a <meal=meal> in <cabin=cabin> {with_airline} [to <to_city=city>]",
    ),
    "seat": (
        2,
        "i (want|would like|need) a <seat=seat> [in <cabin=cabin>] on {flight_name} [{please}]"
        "|are there any <cabin=cabin> seats left {route} {depart}"
        "|can <travellers=travellers> sit together on {flight_name}"
        "|move <person=person> to a <seat=seat> on {flight_name}",
    ),
    "find_hotel": (
        7,
        "{ask} a [<stars=stars>] <hotel_kind=hotel_kind> in <city=city> {stay} [{for_whom}]"
        "|{ask} a <hotel_kind=hotel_kind> near the <landmark=landmark> in <city=city> [{budget}]"
        "|i need a <room=room> in <city=city> {stay} [{budget}]"
        "|is there a <hotel_kind=hotel_kind> with a <amenity=amenity> in <city=city> [{stay}]"
        "|book a <room=room> at <hotel=hotel> [in <city=city>] {stay}",
    ),
    "hotel_price": (
        3,
        "how much is a <room=room> at <hotel=hotel> [in <city=city>] {stay}"
        "|what is the <rank=cheap> <hotel_kind=hotel_kind> in <city=city> {stay}"
        "|what does <hotel=hotel> charge for <duration=nights> [{for_whom}]",
    ),
    "hotel_amenity": (
        2,
        "does <hotel=hotel> [in <city=city>] have a <amenity=amenity> [and a <amenity=amenity>]"
        "|is <hotel=hotel> close to the <landmark=landmark>"
        "|{know} if <hotel=hotel> has a <amenity=amenity> or serves a <meal=meal>",
    ),
    "rent_car": (
        5,
        "{ask} a <car=car> in <pickup_city=city> {hire} [{budget}]"
        "|i want to rent a <car=car> (at|from) <pickup_airport=airport> {hire}"
        "|can i pick up a <car=car> in <pickup_city=city> and drop it off in <dropoff_city=city> [{hire}]"
        "|does <car_company=car_company> have a <car=car> in <pickup_city=city> {hire}",
    ),
    "car_price": (
        2,
        "how much does <car_company=car_company> charge for a <car=car> {hire} [in <pickup_city=city>]"
        "|what is the <rank=cheap> <car=car> in <pickup_city=city> {hire}",
    ),
    "find_train": (
        5,
        "{ask} a (<transport=train>|<stops=stops> train) {track} [{depart}] [{arrive}]"
        "|is there a <transport=train> {track} {depart}"
        "|when does the <rank=fast> <railway=railway> train leave <from_city=city>"
        " for <to_city=city> [{depart}]"
        "|{ask} tickets {for_whom} on the <transport=train> to <to_city=city>"
        " [with <railway=railway>] {depart}",
    ),
    "ground_transport": (
        4,
        "how do i get from <from_airport=airport> to the <landmark=landmark> [by <transport=transport>]"
        "|is there a <transport=transport> from <from_airport=airport>"
        " to (<hotel=hotel>|downtown <to_city=city>) [<bound=time_bound> <depart_time=time>]"
        "|what ground transportation is there in <city=city>"
        "|how much is a <transport=transport> from the <landmark=landmark> to <to_airport=airport>"
        "|{know} when the last <transport=transport> leaves <from_city=city> for <to_airport=airport>",
    ),
    "weather": (
        3,
        "what will the weather be like in <city=city> (<day=near_day>|on <day=day>|in the <period=period>)"
        "|will there be <weather=weather> in <city=city> (<day=near_day>|on <day=day>|on <day=date>)"
        "|{know} whether to expect <weather=weather> [or <weather=weather>] in <city=city>"
        " [around <day=date>]",
    ),
    "change_booking": (
        3,
        "(change|move|shift) {booking} to (<new_day=day>|<new_day=date>) [{please}]"
        "|i want to change {booking} from <old_day=day> to <new_day=day> [because of <reason=reason>]"
        "|can you upgrade {booking} to <cabin=cabin>|add a <bag=bag> [and a <meal=meal>] to {booking}",
    ),
    "cancel_booking": (
        2,
        "(please cancel|cancel|call off) {booking} [because of <reason=reason>] [{please}]"
        "|can i get my money back for {booking} [after <reason=reason>]"
        "|what does it cost to cancel {booking}",
    ),
    "currency": (
        2,
        "how many <to_currency=currency> are <price=amount> <from_currency=currency>"
        "|(change|convert) <price=amount> <from_currency=currency> (to|into) <to_currency=currency>"
        " [{please}]"
        "|can i pay with <from_currency=currency> in (<city=city>|<country=country>)",
    ),
    "visa": (
        2,
        "do <nationality=nationality> citizens need a visa for <country=country> [for <purpose=purpose>]"
        "|how long can i stay in <country=country> (with|on) a <nationality=nationality> passport"
        " [for <purpose=purpose>]"
        "|what papers do <nationality=nationality> citizens need for <purpose=purpose> in <country=country>",
    ),
    "distance": (
        1,
        "how far is (<from_airport=airport> from downtown|<from_city=city> from <to_city=city>)"
        "|how far is it from <from_city=city> to <to_city=city>"
        "|what is the distance between <from_city=city> and <to_city=city>",
    ),
    "time_zone": (
        1,
        "what time is it in <city=city> when it is <time=time> in <reference_city=city>"
        "|what is the time difference between <city=city> and <reference_city=city> [on <day=date>]",
    ),
    "things_to_do": (
        3,
        "what are the best <attraction=sight> [near the <landmark=landmark>] in <city=city> [{for_whom}]"
        "|{ask} <attraction=sight> and <attraction=sight> in <city=city> [{budget}]"
        "|where can i (find|get) good <attraction=cuisine> [near the <landmark=landmark>] in <city=city>"
        " [<day=near_day>]"
        "|are there any <attraction=sight> open in <city=city> on <day=day> <period=period>",
    ),
}
